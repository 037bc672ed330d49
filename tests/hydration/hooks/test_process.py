from __future__ import annotations

import fcntl
import os
import signal
import subprocess
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
from provisioner.hydration.hooks.output import LOG_LIMIT
from provisioner.hydration.hooks.process import Ended, run_hook
from provisioner.hydration.hooks.variables import hook_environment, hook_variables, tool_environment
from provisioner.hydration.step import Launch
from tests.support.starts import processes_of

ENV = {"PATH": "/usr/bin:/bin"}


def sh(
    script: str,
    cwd: Path,
    *,
    env: dict[str, str] | None = None,
    lines: list[str] | None = None,
    cancel: Event | None = None,
    timeout: timedelta | None = None,
    capture: bool = False,
) -> Ended:
    collected = [] if lines is None else lines
    return run_hook(
        ["bash", "-c", script],
        cwd=cwd,
        env=env or ENV,
        log=cwd / "log",
        report=collected.append,
        cancel=cancel or Event(),
        timeout=timeout,
        capture=capture,
    )


def eventually(condition: Callable[[], bool]) -> bool:
    limit = time.monotonic() + 15
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def test_the_exit_code_the_lines_and_the_log_are_kept(tmp_path: Path) -> None:
    lines: list[str] = []
    ended = sh("echo one; echo two >&2; printf '\\033[31mthree'; exit 7", tmp_path, lines=lines)
    assert ended.code == 7
    assert ended.how == "ended with exit code 7"
    assert lines == ["one", "two", "three"]
    assert ended.tail == "one\ntwo\nthree"
    assert "two" in (tmp_path / "log").read_text()
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_standard_output_can_be_captured_while_standard_error_is_reported(tmp_path: Path) -> None:
    lines: list[str] = []
    ended = sh("printf 'a\\0b'; echo log >&2", tmp_path, lines=lines, capture=True)
    assert (ended.captured, lines) == (b"a\0b", ["log"])


def test_a_hook_has_no_input_and_a_session_of_its_own(tmp_path: Path) -> None:
    script = "cat; ps -o sid=,pid= $$ | (read s p; test $s = $p && echo leader)"
    assert sh(script, tmp_path).tail == "leader"


def test_a_hook_sees_exactly_its_environment_and_default_signals(tmp_path: Path) -> None:
    os.environ["JUPYTERHUB_API_TOKEN"] = "hush"
    try:
        ended = sh("env; trap -p", tmp_path, env={**ENV, "GIVEN": "a=b"})
    finally:
        del os.environ["JUPYTERHUB_API_TOKEN"]
    names = {line.partition("=")[0] for line in ended.tail.splitlines()}
    assert names <= {"PATH", "GIVEN", "PWD", "SHLVL", "_"}
    assert "GIVEN=a=b" in ended.tail


def test_a_missing_program_is_refused_in_one_line(tmp_path: Path) -> None:
    for program in ("no-such-program", "./no-such-file"):
        with pytest.raises(HydrationFailed, match="no-such") as refusal:
            run_hook(
                [program], cwd=tmp_path, env=ENV, log=tmp_path / "log", report=print, cancel=Event()
            )
        assert "\n" not in str(refusal.value)


def test_a_signal_is_reported_by_its_name(tmp_path: Path) -> None:
    assert sh("kill -SEGV $$", tmp_path).how == "was ended by SIGSEGV"


def test_a_timeout_ends_the_whole_tree_and_shows_the_tail(tmp_path: Path) -> None:
    mark = f"mark-{tmp_path}"
    with pytest.raises(HydrationFailed, match="longer than") as failure:
        sh(
            "echo begun; sleep 300 & setsid sleep 300 & wait",
            tmp_path,
            env={**ENV, "MARK": mark},
            timeout=timedelta(milliseconds=300),
        )
    assert failure.value.tail == "begun"
    assert processes_of(mark) == []


def test_cancelling_ends_processes_that_ignore_term_or_have_left_the_session(
    tmp_path: Path,
) -> None:
    mark = f"mark-{tmp_path}"
    cancel, lines = Event(), list[str]()
    script = (
        "trap '' TERM; (setsid bash -c 'trap \"\" TERM; echo away; while :; do sleep 0.1; done' &) ;"
        "echo here; while :; do sleep 0.1; done"
    )

    def cancel_when_told(line: str) -> None:
        lines.append(line)
        if {"here", "away"} <= set(lines):
            cancel.set()

    with pytest.raises(Cancelled):
        run_hook(
            ["bash", "-c", script],
            cwd=tmp_path,
            env={**ENV, "MARK": mark},
            log=tmp_path / "log",
            report=cancel_when_told,
            cancel=cancel,
        )
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
            time.sleep(
                0.3
            )  # so that the pipe is full, and the next read returns as much as possible
        if reported == 5000:
            cancel.set()

    with pytest.raises(Cancelled):
        run_hook(["yes"], cwd=tmp_path, env=ENV, log=tmp_path / "log", report=tell, cancel=cancel)
    assert later <= 4096


def test_a_cancelled_hook_gets_time_to_clean_up(tmp_path: Path) -> None:
    cancel = Event()
    with pytest.raises(Cancelled):
        run_hook(
            ["bash", "-c", "trap ': > tidied; exit' TERM; echo on; while :; do sleep 0.05; done"],
            cwd=tmp_path,
            env=ENV,
            log=tmp_path / "log",
            report=lambda _: cancel.set(),
            cancel=cancel,
        )
    assert (tmp_path / "tidied").exists()


def test_a_daemon_does_not_outlive_its_hook(tmp_path: Path) -> None:
    mark = f"mark-{tmp_path}"
    ended = sh("setsid sleep 300 & disown; echo done", tmp_path, env={**ENV, "MARK": mark})
    assert (ended.code, ended.tail) == (0, "done")
    assert processes_of(mark) == []


def test_an_exception_in_the_report_callback_ends_the_hook(tmp_path: Path) -> None:
    mark = f"mark-{tmp_path}"

    def fail(line: str) -> None:
        raise RuntimeError(line)

    with pytest.raises(RuntimeError, match="hello"):
        run_hook(
            ["bash", "-c", "echo hello; sleep 300"],
            cwd=tmp_path,
            env={**ENV, "MARK": mark},
            log=tmp_path / "log",
            report=fail,
            cancel=Event(),
        )
    assert processes_of(mark) == []


CALLER = """
import sys, threading
from pathlib import Path
from provisioner.hydration.hooks.process import run_hook
here = Path(sys.argv[1])
def work():
    run_hook(["bash", "-c", sys.argv[3]], cwd=here,
             env={"PATH": "/usr/bin:/bin", "MARK": sys.argv[2]}, log=here / "log",
             report=lambda line: print(line, flush=True), cancel=threading.Event())
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


def killing(victim: str, script: str, folder: Path) -> bool:
    """Kill the caller of a hook, its supervisor, or both; return whether all processes of the hook end soon."""
    mark = f"mark-{folder}"
    with subprocess.Popen(
        [sys.executable, "-c", CALLER, str(folder), mark, script],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"up\n"
        (supervisor,) = psutil.Process(caller.pid).children()
        assert "supervise.py" in " ".join(supervisor.cmdline())
        if victim == "both":
            caller.send_signal(signal.SIGSTOP)  # so that it cannot react to the end of the other
        for name, process in (("supervisor", supervisor), ("caller", caller)):
            if victim in {name, "both"}:
                process.kill()
        caller.wait(15)
        return eventually(lambda: processes_of(mark) == [])


def test_a_hook_ends_with_its_killed_caller_whatever_sessions_it_has_made(
    tmp_path: Path,
) -> None:
    assert killing("caller", "setsid sleep 300 & echo up; sleep 300", tmp_path)


def test_a_hook_ends_with_its_killed_supervisor_and_the_caller_does_not_hang(
    tmp_path: Path,
) -> None:
    assert killing("supervisor", "sleep 300 & echo up; sleep 300", tmp_path)


def test_a_hook_whose_caller_and_supervisor_are_killed_together_is_killed_by_linux(
    tmp_path: Path,
) -> None:
    """Only Linux does this (PR_SET_PDEATHSIG)."""
    hook = "exec sleep 300" if sys.platform == "linux" else "exec true"
    assert killing("both", f"echo up; {hook}", tmp_path)


def test_a_hook_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    """PR_SET_PDEATHSIG follows the forking thread: that is the supervisor's, not one of ours."""
    ends: list[Ended] = []
    thread = threading.Thread(target=lambda: ends.append(sh("sleep 0.2; echo alive", tmp_path)))
    thread.start()
    thread.join()
    assert ends[0].tail == "alive"


LOCKER = """
import fcntl, os, sys, threading
from pathlib import Path
from provisioner.hydration.hooks.process import holding, run_hook
here = Path(sys.argv[1])
lock = os.open(here / "lock", os.O_RDWR | os.O_CREAT)
fcntl.flock(lock, fcntl.LOCK_EX)
with holding(lock):
    run_hook(["bash", "-c", "trap '' TERM; echo up; while :; do sleep 0.02; done"], cwd=here,
             env={"PATH": "/usr/bin:/bin", "MARK": sys.argv[2]}, log=here / "log",
             report=lambda line: print(line, flush=True), cancel=threading.Event())
"""


def test_a_lock_stays_locked_until_the_hook_of_a_killed_caller_has_ended(tmp_path: Path) -> None:
    mark = f"mark-{tmp_path}"
    with subprocess.Popen(
        [sys.executable, "-c", LOCKER, str(tmp_path), mark],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as caller:
        assert caller.stdout is not None
        assert caller.stdout.readline() == b"up\n"
        caller.kill()
    with (tmp_path / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert processes_of(mark) == []


def test_the_log_keeps_its_end_within_its_limit(tmp_path: Path) -> None:
    sh(f"head -c {3 * LOG_LIMIT} /dev/zero | tr '\\0' 'x' | fold -w 100; echo last", tmp_path)
    log = tmp_path / "log"
    assert log.stat().st_size <= LOG_LIMIT
    assert log.read_bytes().endswith(b"last\n")


def test_a_log_that_is_a_link_or_a_pipe_is_replaced(tmp_path: Path) -> None:
    precious, log = tmp_path / "precious", tmp_path / "log"
    precious.write_text("mine")
    log.symlink_to(precious)
    sh("echo hi", tmp_path)
    assert precious.read_text() == "mine"
    log.unlink()
    os.mkfifo(log)
    sh("echo hi", tmp_path)
    assert "hi" in log.read_text()


def test_endless_lines_and_progress_bars_are_split(tmp_path: Path) -> None:
    lines: list[str] = []
    sh("printf '10%%\\r20%%\\r'; head -c 9000 /dev/zero | tr '\\0' y", tmp_path, lines=lines)
    assert lines[:2] == ["10%", "20%"]
    assert "".join(lines[2:]) == "y" * 9000


def test_hooks_see_no_variable_with_a_secret() -> None:
    secret = {
        "JUPYTERHUB_API_TOKEN": "s", "JPY_API_TOKEN": "s", "AWS_SECRET_ACCESS_KEY": "s", "FOO": "s",
        "XDG_TOKEN": "s", "LC_PASSWORD": "s", "UV_INDEX_PRIVATE_PASSWORD": "s", "NPM_KEY": "s",
    }  # fmt: skip
    assert hook_environment(secret) == {}
    assert tool_environment(secret) == {}


def test_logins_in_addresses_reach_tools_but_no_hooks() -> None:
    env = {"https_proxy": "http://me:pw@127.0.0.1:1", "UV_INDEX_URL": "https://127.0.0.1/simple"}
    assert tool_environment(env) == env
    assert hook_environment(env) == {"UV_INDEX_URL": "https://127.0.0.1/simple"}


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
    assert hook_environment({name: value}) == {}
    assert tool_environment({name: value}) == {name: value}


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
    assert hook_environment({name: value}) == {name: value}


def test_logins_in_a_command_line_are_not_logged(tmp_path: Path) -> None:
    sh("true # https://me:hush@127.0.0.1/x", tmp_path)
    assert "https://…@127.0.0.1/x" in (tmp_path / "log").read_text()


def test_nix_settings_reach_hooks_without_their_tokens() -> None:
    tokens = "access-tokens = a=b\nextra-access-tokens = c=d\n  extra-secret-key-files = /k"
    env = {"NIX_CONFIG": f"sandbox = false\n{tokens}\ncores = 1"}
    assert hook_environment(env) == {"NIX_CONFIG": "sandbox = false\ncores = 1"}
    assert tool_environment(env) == env


def test_paths_that_do_not_exist_are_not_passed_on(tmp_path: Path) -> None:
    env = {"TMPDIR": "/nonexistent", "SSL_CERT_FILE": "/no-cert-file.crt", "HOME": "/h"}
    assert hook_environment(env) == {"HOME": "/h"}
    assert hook_environment({"TMPDIR": str(tmp_path)}) == {"TMPDIR": str(tmp_path)}


def test_hooks_see_the_variables_that_steps_have_set() -> None:
    launch = Launch(("python",), {"PATH": "/a", "SECRET": "s"}, added={"CC": "gcc"})
    assert hook_variables(launch) == {"PATH": "/a", "CC": "gcc"}


def test_a_supervisor_that_gets_term_ends_its_hook(tmp_path: Path) -> None:
    mark = f"mark-{tmp_path}"

    def stop(_: str) -> None:
        psutil.Process().children()[0].send_signal(signal.SIGTERM)

    ended = run_hook(
        ["bash", "-c", "echo up; sleep 300"],
        cwd=tmp_path,
        env={**ENV, "MARK": mark},
        log=tmp_path / "log",
        report=stop,
        cancel=Event(),
    )
    assert ended.how == "was ended by SIGTERM"
    assert processes_of(mark) == []


@pytest.mark.parametrize("stream", [1, 2])
def test_logins_that_a_hook_prints_are_neither_logged_nor_reported(
    tmp_path: Path, stream: int
) -> None:
    (tmp_path / "script").write_text(f"echo from https://me:hush@127.0.0.1/simple >&{stream}")
    lines: list[str] = []
    ended = sh(". ./script", tmp_path, lines=lines)
    assert lines == ["from https://…@127.0.0.1/simple"]
    assert ended.tail == lines[0]
    assert "hush" not in (tmp_path / "log").read_text()
