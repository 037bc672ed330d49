# A development shell without nixpkgs, so that it is there in a moment and needs no network: one program, one
# variable, one shellHook. It takes bash from the machine. Where that cannot be (NixOS, or a Nix that builds in a
# sandbox), shell.nix beside it makes the same shell from nixpkgs.
{
  description = "The shell of the Nix tour";

  outputs = { self }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" "x86_64-darwin" "aarch64-darwin" ];

      shellFor = system:
        let
          # The last command is a builtin of bash on purpose: where it was a program, Nix 2.8 now and then took
          # the build for killed.
          build = name: script: derivation {
            inherit name system;
            builder = "/bin/bash";
            args = [ "-euc" "${script}\nexit 0" ];
            PATH = "/usr/bin:/bin";
          };

          greet = build "greet" ''
            mkdir -p $out/bin
            printf '%s\n' '#!/bin/sh' 'echo "$GREETING, $1."' > $out/bin/greet
            chmod +x $out/bin/greet
          '';

          # What nixpkgs calls stdenv does much more; here it puts the inputs on the PATH.
          stdenv = build "stdenv" ''
            mkdir $out
            printf '%s\n' 'PATH=' 'for input in $buildInputs; do PATH=$PATH''${PATH:+:}$input/bin; done' \
              'export PATH' > $out/setup
          '';
        in
        derivation {
          name = "nix-tour";
          inherit system stdenv;
          builder = "/bin/bash";
          outputs = [ "out" ];
          buildInputs = [ greet ];
          GREETING = "Good morning";
          shellHook = ''
            export ANSWER=$((6 * 7))
          '';
        };
    in
    {
      devShells = builtins.listToAttrs
        (map (system: { name = system; value.default = shellFor system; }) systems);
    };
}
