"""Two sweepers and four kernels at once on one root: no error, no double backup, no lost file."""

from __future__ import annotations

import collections
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from provisioner.pool.pool import Pool
from provisioner.settings.pool import VolumePool

SECONDS = 120 if os.environ.get("CI") else 15

SETTINGS = {
    "VolumePool": {
        "backup_after": 0.3,
        "prune_after": 1,
        "keep_backups": "never",
        "max_volumes": 4,
        "headroom": 0,
        "acquire_timeout": 30,
    }
}

WORKER = """
import asyncio, hashlib, os, sys, time
from jupyter_client.manager import AsyncKernelManager

async def cell(client, code):
    said = []
    reply = await client.execute_interactive(
        code, timeout=60, output_hook=lambda m: said.append(m["content"].get("text", "")))
    assert reply["content"]["status"] == "ok", reply
    return "".join(said).strip()

async def main(session, seconds):
    os.environ["JUPYTER_VOLUME_SESSION"] = session
    written, end, runs = {}, time.monotonic() + seconds, 0
    while time.monotonic() < end:
        manager = AsyncKernelManager(kernel_name="python3-volume")
        await manager.start_kernel()
        client = manager.client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=60)
            found = eval(await cell(client,
                "import glob; print({n: open(n).read() for n in glob.glob('file-*')})"))
            assert found == written, f"{session}: run {runs}: {sorted(found)} != {sorted(written)}"
            name, text = f"file-{runs % 7}", f"{session} {runs} " * 50
            await cell(client, f"open({name!r}, 'w').write({text!r})")
            written[name] = text
        finally:
            client.stop_channels()
            await manager.shutdown_kernel(now=True)
        runs += 1
        # Long enough for sweeps to back up, and at times to prune.
        await asyncio.sleep(runs % 3)
    print("runs", runs)

asyncio.run(main(sys.argv[1], float(sys.argv[2])))
"""


def test_sweepers_and_kernels_at_work_together_lose_nothing(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.mkdir()
    (config / "jupyter_volumes_config.json").write_text(json.dumps(SETTINGS))
    env = {
        **os.environ,
        "JUPYTER_VOLUMES_ROOT": str(tmp_path / "root"),
        "JUPYTER_CONFIG_DIR": str(config),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    sweeping = [sys.executable, "-m", "provisioner.cli", "sweep", "--every", "0.2"]
    sweepers = [_start(sweeping, env) for _ in range(2)]
    workers = [
        _start([sys.executable, "-c", WORKER, f"session-{n}", str(SECONDS)], env) for n in range(4)
    ]
    try:
        for worker in workers:
            out, err = worker.communicate(timeout=SECONDS + 120)
            assert worker.returncode == 0, err
            assert int(out.split()[1]) >= 3, "too few kernels ran for the test to mean anything"
        deadline = time.monotonic() + 60
        pool = Pool(VolumePool(root=str(tmp_path / "root"), **SETTINGS["VolumePool"]))
        while any(r.has_files for r in pool.volumes()) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not [r.session for r in pool.volumes() if r.has_files], "what is due gets done"
    finally:
        for worker in workers:
            worker.kill()
        for sweeper in sweepers:
            sweeper.send_signal(signal.SIGTERM)
    for sweeper in sweepers:
        out, err = sweeper.communicate(timeout=60)
        assert sweeper.returncode == 0, err
        assert "Traceback" not in err
        assert "failed" not in err
    made = collections.Counter((b.id, b.generation) for b in pool.backups.list())
    assert len(made) >= 4
    assert max(made.values()) == 1, "a generation was backed up twice"


def _start(argv: list[str], env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        argv, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
