"""Which environment variables a hook may see.

A hook is a program of somebody else: a bootstrap command, a `shellHook`, a build script. The server's environment
holds tokens, so only the variables listed here are passed on.
"""

from __future__ import annotations

import re
from pathlib import Path

from provisioner.core.logins import without_logins
from provisioner.hydration.step import Launch

_NAMES = frozenset(
    {
        "HOME", "PATH", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME", "JUPYTER_VOLUME",
        "JUPYTER_VOLUME_SESSION",
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
        "http_proxy", "https_proxy", "all_proxy", "no_proxy",
        "NIX_CONFIG", "NIX_CONF_DIR", "NIX_LOG_DIR", "NIX_PATH", "NIX_REMOTE", "NIX_STATE_DIR",
        "NIX_STORE_DIR", "NIX_USER_CONF_FILES",
        "PIP_CONFIG_FILE", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_INDEX_URL", "PIP_NO_INDEX",
        "PIP_TRUSTED_HOST",
        "UV_CONFIG_FILE", "UV_DEFAULT_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS", "UV_INDEX",
        "UV_HTTP_RETRIES", "UV_HTTP_TIMEOUT",
        "UV_INDEX_STRATEGY", "UV_INDEX_URL", "UV_INSECURE_HOST", "UV_NATIVE_TLS", "UV_NO_INDEX",
        "UV_OFFLINE", "UV_SYSTEM_CERTS",
    }
)  # fmt: skip
_PREFIXES = ("LC_", "XDG_")
# Values that name a file or directory, passed on only if it exists: a deleted TMPDIR makes every `mktemp` fail,
# and Nix's builders set certificates to /no-cert-file.crt.
_PATHS = frozenset(
    {
        "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "NIX_SSL_CERT_FILE", "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "PIP_CERT",
    }
)  # fmt: skip
_FORBIDDEN_NAME = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|KEY|^JUPYTERHUB_|^JPY_", re.IGNORECASE
)
_SECRET_NIX_SETTING = re.compile(r"^\s*(extra-)?(access-tokens|netrc-file|secret-key-files)\s*=")
_BARE_LOGIN = re.compile(r"[^/\s]*@")  # a proxy's without a scheme, which tools accept


def hook_variables(launch: Launch) -> dict[str, str]:
    """Return what a hook sees inside a launch: what tools need, without logins, and all that steps have set.

    Variables with a login in an address (a proxy's, a package index's) are left out, and so are the lines of
    `NIX_CONFIG` that hold tokens.
    """
    needed = {name: value for name, value in launch.env.items() if _is_needed(name, value)}
    visible = {name: value for name, value in needed.items() if not _has_login(name, value)}
    if config := visible.get("NIX_CONFIG"):
        kept = (line for line in config.splitlines() if not _SECRET_NIX_SETTING.match(line))
        visible["NIX_CONFIG"] = "\n".join(kept)
    return {**visible, **launch.added}


def tool_variables(launch: Launch) -> dict[str, str]:
    """Return what `nix` and `uv` see inside a launch: as a hook does, and logins to fetch with."""
    needed = {name: value for name, value in launch.env.items() if _is_needed(name, value)}
    return {**needed, **launch.added}


def _has_login(name: str, value: str) -> bool:
    is_bare = name.lower().endswith("_proxy") and _BARE_LOGIN.match(value) is not None
    return is_bare or without_logins(value) != value


def _is_needed(name: str, value: str) -> bool:
    if _FORBIDDEN_NAME.search(name):
        return False
    if name in _PATHS:
        return Path(value).is_absolute() and Path(value).exists()
    return name in _NAMES or name.startswith(_PREFIXES)
