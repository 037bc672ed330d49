# The shell of flake.nix, made from nixpkgs: works on NixOS and in a sandbox, and takes longer the first time.
{ pkgs ? import <nixpkgs> { } }:

pkgs.mkShell {
  packages = [ (pkgs.writeShellScriptBin "greet" ''echo "$GREETING, $1."'') ];
  GREETING = "Good morning";
  shellHook = ''
    export ANSWER=$((6 * 7))
  '';
}
