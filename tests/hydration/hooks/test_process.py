from __future__ import annotations

import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from threading import Event

import psutil
import pytest

from provisioner.core.errors import Cancelled, HydrationFailed
from provisioner.hydration.hooks.process import Ended, StepHooks
from provisioner.hydration.hooks.variables import hook_variables, tool_variables
from provisioner.hydration.step import Launch, Place
from tests.support.pools import wait_for
from tests.support.processes import kill, line_of, running
from tests.support.starts import Reported, processes_of

ENV = {"PATH": "/usr/bin:/bin"}
LOG = "hydration.log"


def sh(
    script: str,
    cwd: Path,
    *,
    report: Callable[[str], object] = lambda line: None,
    cancel: Event | None = None,
    timeout: timedelta | None = None,
    capture: bool = False,
    **env: str,
) -> Ended:
    """Run a script as a hook."""

    def progress(step: str, message: str, fraction: float | None = None) -> None:
        report(message)

    hooks = StepHooks("step", Place(cwd, cwd), progress, cancel or Event())
    command = ["bash", "-c", script]
    return hooks.run(command, {**ENV, **env}, timeout=timeout, capture=capture)


@pytest.fixture
def mark(tmp_path: Path) -> str:
    """The value of a variable by which a test recognizes its processes."""
    return f"mark-{tmp_path}"


def test_the_exit_code_the_lines_and_the_log_are_kept(tmp_path: Path) -> None:
    lines: list[str] = []
    ended = sh(
        "echo one; echo two >&2; printf '\\033[31mthree'; exit 7", tmp_path, report=lines.append
    )
    assert ended.code == 7
    assert ended.how == "ended with exit code 7"
    assert lines == ["one", "two", "three"]
    assert ended.tail == "one\ntwo\nthree"
    assert "two" in (tmp_path / LOG).read_text()
    assert (tmp_path / LOG).stat().st_mode & 0o777 == 0o600


def test_standard_output_can_be_captured_while_standard_error_is_reported(tmp_path: Path) -> None:
    lines: list[str] = []
    ended = sh("printf 'a\\0b'; echo log >&2", tmp_path, report=lines.append, capture=True)
    assert (ended.captured, lines) == (b"a\0b", ["log"])


def test_a_hook_has_no_input_and_a_session_of_its_own(tmp_path: Path) -> None:
    script = "cat; ps -o sid=,pid= $$ | (read s p; test $s = $p && echo leader)"
    assert sh(script, tmp_path).tail == "leader"


def test_a_hook_sees_exactly_its_environment_and_default_signals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTERHUB_API_TOKEN", "hush")
    ended = sh("env; trap -p", tmp_path, GIVEN="a=b")
    names = {line.partition("=")[0] for line in ended.tail.splitlines()}
    assert names <= {"PATH", "GIVEN", "PWD", "SHLVL", "_"}
    assert "GIVEN=a=b" in ended.tail


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("no-such-program", "not found on the hook's PATH"),
        ("./no-such-file", "could not be executed"),
    ],
)
def test_a_missing_program_is_refused_in_one_line(
    tmp_path: Path, program: str, reason: str
) -> None:
    hooks = StepHooks("step", Place(tmp_path, tmp_path), Reported(), Event())
    with pytest.raises(HydrationFailed, match=f"'{program}'.*{reason}") as refusal:
        hooks.run([program], ENV)
    assert "\n" not in str(refusal.value)


def test_a_signal_is_reported_by_its_name(tmp_path: Path) -> None:
    assert sh("kill -SEGV $$", tmp_path).how == "was ended by SIGSEGV"


def test_a_timeout_ends_the_whole_tree_and_shows_the_tail(tmp_path: Path, mark: str) -> None:
    script = "echo begun; sleep 300 & setsid sleep 300 & wait"
    with pytest.raises(HydrationFailed, match="longer than") as failure:
        sh(script, tmp_path, MARK=mark, timeout=timedelta(milliseconds=300))
    assert failure.value.tail == "begun"
    assert processes_of(mark) == []


def test_cancelling_ends_processes_that_ignore_term_or_have_left_the_session(
    tmp_path: Path, mark: str
) -> None:
    cancel, lines = Event(), set[str]()
    script = (
        "trap '' TERM; (setsid bash -c 'trap \"\" TERM; echo away; while :; do sleep 0.1; done' &) ;"
        "echo here; while :; do sleep 0.1; done"
    )

    def cancel_when_told(line: str) -> None:
        lines.add(line)
        if {"here", "away"} <= lines:
            cancel.set()

    with pytest.raises(Cancelled):
        sh(script, tmp_path, MARK=mark, report=cancel_when_told, cancel=cancel)
    assert processes_of(mark) == []


def test_cancelling_a_hook_that_prints_endlessly_ends_it_after_few_more_lines(
    tmp_path: Path,
) -> None:
    """Reporting a line takes time: it is logged and sent as an event."""
    cancel, reported, later = Event(), 0, 0

    def tell(_: str) -> None:
        nonlocal reported, later
        reported += 1
        later += cancel.is_set()
        if reported == 1:
            # So that the pipe is full, and the next read returns as much as possible.
            time.sleep(0.3)
        if reported == 5000:
            cancel.set()

    with pytest.raises(Cancelled):
        sh("exec yes", tmp_path, report=tell, cancel=cancel)
    assert later <= 4096


def test_a_cancelled_hook_gets_time_to_clean_up(tmp_path: Path) -> None:
    cancel = Event()
    script = "trap ': > tidied; exit' TERM; echo on; while :; do sleep 0.05; done"
    with pytest.raises(Cancelled):
        sh(script, tmp_path, report=lambda _: cancel.set(), cancel=cancel)
    assert (tmp_path / "tidied").exists()


def test_a_daemon_does_not_outlive_its_hook(tmp_path: Path, mark: str) -> None:
    ended = sh("setsid sleep 300 & disown; echo done", tmp_path, MARK=mark)
    assert (ended.code, ended.tail) == (0, "done")
    assert processes_of(mark) == []


def test_an_exception_in_the_report_callback_ends_the_hook(tmp_path: Path, mark: str) -> None:
    def fail(line: str) -> None:
        raise RuntimeError(line)

    with pytest.raises(RuntimeError, match="hello"):
        sh("echo hello; sleep 300", tmp_path, MARK=mark, report=fail)
    assert processes_of(mark) == []


def test_a_supervisor_that_gets_term_ends_its_hook(tmp_path: Path, mark: str) -> None:
    def stop(_: str) -> None:
        psutil.Process().children()[0].send_signal(signal.SIGTERM)

    ended = sh("echo up; sleep 300", tmp_path, MARK=mark, report=stop)
    assert ended.how == "was ended by SIGTERM"
    assert processes_of(mark) == []


CALLER = """
import fcntl, os, sys, threading
from pathlib import Path
from provisioner.hydration.hooks.process import StepHooks, holding
from provisioner.hydration.step import Place
here = Path(sys.argv[1])
def report(step, line, fraction=None):
    print(line, flush=True)
def work():
    lock = os.open(here / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with holding(lock):
        hooks = StepHooks("step", Place(here, here), report, threading.Event())
        hooks.run(["bash", "-c", sys.argv[3]], {"PATH": "/usr/bin:/bin", "MARK": sys.argv[2]})
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.parametrize(
    ("victims", "script"),
    [
        ({"caller"}, "setsid sleep 300 & echo up; sleep 300"),
        ({"supervisor"}, "sleep 300 & echo up; sleep 300"),
        # Only Linux does this (PR_SET_PDEATHSIG).
        ({"supervisor", "caller"}, "echo up; " + ("exec sleep 300" * (sys.platform == "linux"))),
    ],
)
def test_a_hook_ends_with_its_killed_caller_or_supervisor_and_the_caller_does_not_hang(
    tmp_path: Path, mark: str, victims: set[str], script: str
) -> None:
    with running(CALLER, str(tmp_path), mark, script) as caller:
        assert line_of(caller) == "up"
        (supervisor,) = psutil.Process(caller.pid).children()
        assert "supervise.py" in " ".join(supervisor.cmdline())
        if len(victims) > 1:
            caller.send_signal(signal.SIGSTOP)  # so that it cannot react to the end of the other
        for name, process in (("supervisor", supervisor), ("caller", caller)):
            if name in victims:
                process.kill()
        caller.wait(15)
        wait_for(lambda: processes_of(mark) == [])


def test_a_lock_stays_locked_until_the_hook_of_a_killed_caller_has_ended(
    tmp_path: Path, mark: str
) -> None:
    script = "trap '' TERM; echo up; while :; do sleep 0.02; done"
    with running(CALLER, str(tmp_path), mark, script) as caller:
        assert line_of(caller) == "up"
        kill(caller)
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert processes_of(mark) == []


def test_a_hook_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """PR_SET_PDEATHSIG follows the forking thread: that is the supervisor's, not one of ours."""
    ends: list[Ended] = []
    thread = threading.Thread(target=lambda: ends.append(sh("sleep 0.2; echo alive", tmp_path)))
    thread.start()
    thread.join()
    assert ends[0].tail == "alive"


def test_a_log_that_is_a_link_or_a_pipe_is_replaced(tmp_path: Path) -> None:
    precious, log = tmp_path / "precious", tmp_path / LOG
    precious.write_text("mine")
    log.symlink_to(precious)
    sh("echo hi", tmp_path)
    assert precious.read_text() == "mine"
    log.unlink()
    os.mkfifo(log)
    sh("echo hi", tmp_path)
    assert "hi" in log.read_text()


def seen_by_hooks(env: dict[str, str]) -> dict[str, str]:
    """Return what hooks see of a server's environment."""
    return hook_variables(Launch(("python",), env))


def seen_by_tools(env: dict[str, str]) -> dict[str, str]:
    """Return what uv and Nix see of it."""
    return tool_variables(Launch(("python",), env))


def test_hooks_see_no_variable_with_a_secret() -> None:
    secret = {
        "JUPYTERHUB_API_TOKEN": "s", "JPY_API_TOKEN": "s", "AWS_SECRET_ACCESS_KEY": "s", "FOO": "s",
        "XDG_TOKEN": "s", "LC_PASSWORD": "s", "UV_INDEX_PRIVATE_PASSWORD": "s", "NPM_KEY": "s",
    }  # fmt: skip
    assert seen_by_hooks(secret) == {}
    assert seen_by_tools(secret) == {}


def test_logins_in_addresses_reach_tools_but_no_hooks() -> None:
    env = {"https_proxy": "http://me:pw@127.0.0.1:1", "UV_INDEX_URL": "https://127.0.0.1/simple"}
    assert seen_by_tools(env) == env
    assert seen_by_hooks(env) == {"UV_INDEX_URL": "https://127.0.0.1/simple"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "me:pw@127.0.0.1:1"),
        ("all_proxy", "me@127.0.0.1:1"),
        ("PIP_EXTRA_INDEX_URL", "https://127.0.0.1/simple?token=pw"),
        ("UV_INDEX", "one=https://127.0.0.1/a https://127.0.0.1/b?x=1&X-Amz-Signature=pw"),
    ],
)
def test_hooks_see_no_login_in_any_form(name: str, value: str) -> None:
    assert seen_by_hooks({name: value}) == {}
    assert seen_by_tools({name: value}) == {name: value}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HTTPS_PROXY", "127.0.0.1:3128"),
        ("no_proxy", "localhost,.example"),
        ("UV_FIND_LINKS", "/srv/wheels@2"),
        ("PIP_INDEX_URL", "https://127.0.0.1/simple?arch=x86"),
    ],
)
def test_hooks_see_variables_without_logins(name: str, value: str) -> None:
    assert seen_by_hooks({name: value}) == {name: value}


def test_logins_in_a_command_line_are_not_logged(tmp_path: Path) -> None:
    sh("true # https://me:hush@127.0.0.1/x", tmp_path)
    assert "https://…@127.0.0.1/x" in (tmp_path / LOG).read_text()


def test_nix_settings_reach_hooks_without_their_tokens() -> None:
    tokens = "access-tokens = a=b\nextra-access-tokens = c=d\n  extra-secret-key-files = /k"
    env = {"NIX_CONFIG": f"sandbox = false\n{tokens}\ncores = 1"}
    assert seen_by_hooks(env) == {"NIX_CONFIG": "sandbox = false\ncores = 1"}
    assert seen_by_tools(env) == env


def test_paths_that_do_not_exist_are_not_passed_on(tmp_path: Path) -> None:
    env = {"TMPDIR": "/nonexistent", "SSL_CERT_FILE": "/no-cert-file.crt", "HOME": "/h"}
    assert seen_by_hooks(env) == {"HOME": "/h"}
    assert seen_by_hooks({"TMPDIR": str(tmp_path)}) == {"TMPDIR": str(tmp_path)}


def test_hooks_see_the_variables_that_steps_have_set() -> None:
    launch = Launch(("python",), {"PATH": "/a", "SECRET": "s"}, added={"CC": "gcc"})
    assert hook_variables(launch) == {"PATH": "/a", "CC": "gcc"}
