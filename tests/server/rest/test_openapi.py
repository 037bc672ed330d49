"""The description of the REST interface is valid, and a fuzzer finds that the interface does what it describes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urljoin

import yaml
from openapi_spec_validator import validate

from provisioner.server.rest.endpoints import OPENAPI, api_handlers
from tests.support.serving import TOKEN, Place, Server, served

EXAMPLES = "12"


def test_the_description_is_a_valid_openapi_document() -> None:
    validate(yaml.safe_load(OPENAPI.read_text()))


def test_the_server_returns_the_description_as_json_and_as_yaml(server: Server) -> None:
    described = yaml.safe_load(OPENAPI.read_text())
    assert server.get("/api/volumes/openapi.json").json() == described
    assert yaml.safe_load(server.get("/api/volumes/openapi.yaml").text) == described


def test_the_description_names_the_address_of_the_server_at_any_base_url(place: Place) -> None:
    with served(place, "--ServerApp.base_url=/user/alice/") as server:
        address = f"{server.url}/api/volumes/openapi.json"
        described = server.http.get(address, timeout=30).json()
        (base,) = (urljoin(address, entry["url"]) for entry in described["servers"])
        assert base.rstrip("/") == server.url
        page = server.http.get(f"{server.url}/volumes", timeout=30)
        assert 'action="/user/alice/volumes/sweep/sweep"' in page.text


def test_the_operations_described_are_exactly_those_that_exist() -> None:
    described = {
        (path, method)
        for path, item in yaml.safe_load(OPENAPI.read_text())["paths"].items()
        for method in item
        if method != "parameters"
    }
    existing = set()
    for pattern, handler, _ in api_handlers(None):  # type: ignore[arg-type]  # never called
        path = pattern.replace("([^/]+)", "{id}").replace("jobs/{id}", "jobs/{job}")
        own = {m for m in ("get", "put", "post", "delete", "patch") if m in vars(handler)}
        for form in ("json", "yaml") if "(json|yaml)" in path else ("",):
            existing |= {(path.replace(r"\.(json|yaml)", f".{form}"), method) for method in own}
    assert {(p, m) for p, m in existing if "(.*)" not in p} == described


def test_a_fuzzer_finds_no_server_error_and_no_answer_that_is_not_described(
    server: Server, tmp_path: Path
) -> None:
    # So that the fuzzer finds volumes and jobs too. Other tests' volumes are left out: it changes them.
    ids = [server.place.stopped_volume(f"fuzzed-{number}.ipynb") for number in range(2)]
    logged = len(server.log)
    description = yaml.safe_load(OPENAPI.read_text())
    description["components"]["parameters"]["VolumeId"]["schema"] = {
        "anyOf": [{"enum": ids}, {"type": "string", "minLength": 1}]
    }
    path = tmp_path / "openapi.json"
    path.write_text(json.dumps(description))
    command = [
        str(Path(sys.executable).with_name("schemathesis")),
        "run",
        str(path),
        f"--url={server.url}",
        f"--header=Authorization: token {TOKEN}",
        (
            "--checks=not_a_server_error,status_code_conformance,content_type_conformance,"
            "response_schema_conformance"
        ),
        "--mode=all",
        f"--max-examples={EXAMPLES}",
        "--generation-deterministic",
        "--phases=examples,coverage,fuzzing",
        "--request-timeout=20",
        "--suppress-health-check=filter_too_much",  # the few ids that exist leave few examples
        "--no-color",
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=200, cwd=tmp_path, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert server.get("/api/volumes").ok
    assert "Traceback" not in server.log[logged:]
