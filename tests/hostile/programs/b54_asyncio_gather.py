# case: b54_asyncio_gather
# class: benign
# style: call
# it must not: be rejected
# detect: verdict
# expect: verdict PASS
import asyncio
async def one(n):
    await asyncio.sleep(0.001); return n
async def main(a, b):
    q = asyncio.Queue()
    async with asyncio.timeout(2), asyncio.TaskGroup() as g:
        t = [g.create_task(one(n)) for n in (a, b)]; await q.put(1)
    return sum([x.result() for x in t]) + await asyncio.to_thread(int, 0) + await q.get() - 1
def add(a, b): return asyncio.run(main(a, b))
