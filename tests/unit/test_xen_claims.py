"""One process of ours a vif, on Xen; the next one waits for its end."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

from xenvirt.abi.ids import DOM0
from xenvirt.hypervisor.claims import claim

NODE = "backend/vif/1/0"

HOLDER = """
import asyncio, sys
from pathlib import Path
from xenvirt.hypervisor.claims import claim
async def main():
    await claim(0, sys.argv[2], locks=Path(sys.argv[1]))
    print("has it", flush=True)
    sys.stdin.read()
asyncio.run(main())
"""


def test_nobody_else_has_it(tmp_path: Path) -> None:
    async def main() -> None:
        for _ in range(2):
            own = await claim(DOM0, NODE, locks=tmp_path / "locks")
            other = await claim(DOM0, "backend/vif/1/1", locks=tmp_path / "locks")
            assert not own.waited
            assert not other.waited
            own.release()
            own.release()
            other.release()
            assert list((tmp_path / "locks").iterdir()) == []

    asyncio.run(main())


def test_the_next_one_waits_until_the_first_is_dead(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDER, str(tmp_path), NODE]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "has it\n"

        async def main() -> None:
            waiting = asyncio.create_task(claim(DOM0, NODE, locks=tmp_path))
            done, _ = await asyncio.wait([waiting], timeout=0.3)
            assert not done
            holder.kill()
            own = await asyncio.wait_for(waiting, 10)
            assert own.waited
            assert (tmp_path / "0-backend-vif-1-0").read_text() == f"{os.getpid()}\n"
            own.release()

        asyncio.run(main())


def test_of_many_that_wait_one_at_a_time_has_it(tmp_path: Path) -> None:
    async def main() -> None:
        holders = 0

        async def hold() -> None:
            nonlocal holders
            own = await claim(DOM0, NODE, locks=tmp_path)
            holders += 1
            assert holders == 1
            await asyncio.sleep(0)
            holders -= 1
            own.release()

        await asyncio.gather(*(hold() for _ in range(5)))

    asyncio.run(main())
