"""The hub without a server: logs, ids, snapshots, batches, subscribers that are slow, many threads, bounded memory."""
import asyncio
import gc
import os
import random
import threading
import time
import tracemalloc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from cjm_fasthtml_workers.extensions.protocols import EventBroadcasterProtocol
from cjm_fasthtml_workers.extensions.sse import SSEEvent, SSEHub, Subscription, TooManySubscribers, fan_out

JOB = {'job_id': 'j1', 'plugin_id': 'llm', 'status': 'running'}
SCALE = float(os.environ.get('SSE_SCALE', .02))   # 1: 100,000 jobs, a million chunks

def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    def run(*args: Any, **kwargs: Any) -> None: asyncio.run(asyncio.wait_for(test(*args, **kwargs), 50))
    run.__name__, run.__doc__ = test.__name__, test.__doc__
    run.__wrapped__ = test   # type: ignore[attr-defined]  # pytest reads the parameters here
    return run

def tell(hub: SSEHub, name: str, job_id: str = 'j1', **data: Any) -> None:
    status = {'queued': 'pending', 'started': 'running'}.get(name, name if name in ('completed', 'failed', 'cancelled')
                                                             else 'running')
    hub.publish(f'chat:{name}', {**JOB, 'job_id': job_id, 'status': status, **data})

def say(hub: SSEHub, *words: str, job_id: str = 'j1') -> None:
    for word in words: tell(hub, 'chunk', job_id, chunk=word)

async def all_of(subscription: Subscription) -> list[SSEEvent]: return [e async for e in subscription]

async def nothing_for(subscription: Subscription, seconds: float) -> bool:
    task = asyncio.ensure_future(anext(subscription))
    await asyncio.wait({task}, timeout=seconds)
    is_silent = not task.done()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return is_silent

def text_of(events: list[SSEEvent]) -> str:
    "The text as a page would show it: a snapshot replaces it, a chunk adds to it."
    text = ''
    for e in events:
        if e.type == 'snapshot': text = e.data['text']
        elif e.name == 'chunk': text += e.data['chunk']
    return text

def test_hub_is_a_broadcaster() -> None:
    assert isinstance(SSEHub(), EventBroadcasterProtocol) and isinstance(fan_out(), EventBroadcasterProtocol)

# ---- Wherever one comes in

@on_loop
async def test_each_place_to_come_back_to() -> None:
    "A client that saw the first n events and comes back has seen everything once, for every n"
    hub = SSEHub(coalesce_seconds=0)
    tell(hub, 'queued')
    whole = hub.subscribe('j1')
    tell(hub, 'started')
    say(hub, 'a', 'b', 'c')
    tell(hub, 'progress', progress=.5)
    tell(hub, 'failed', error='no', fault='plugin_error')
    events = await all_of(whole)
    assert [e.name for e in events] == ['snapshot', 'started', 'chunk', 'chunk', 'chunk', 'progress', 'failed']
    for n in range(1, len(events) + 1):
        rest = await all_of(hub.subscribe('j1', events[n - 1].id))
        assert [e.name for e in events[:n] + rest] == [e.name for e in events]
        assert text_of(events[:n] + rest) == 'abc'

FORGED = ['', '0', '-1', 'x', '\0', '9' * 1000, 'é', '\ud800', '{e}', '{e}-', '{e}-2', '{e}-2-', '{e}-2--1', '{e}-2-99',
          '{e}-2-1e0', '{e}-2-²', '{e}-2-\u0663', '{e}-1-1', '{e}-3-1', '{e}-2-1\n', ' {e}-2-1',
          'f' * 16 + '-2-1', '{e}-02-1']

@pytest.mark.parametrize('forged', FORGED)
@pytest.mark.parametrize('is_finished', [False, True])
@on_loop
async def test_forged_ids_get_a_snapshot(forged: str, is_finished: bool) -> None:
    hub = SSEHub(coalesce_seconds=0)
    tell(hub, 'started')
    say(hub, 'a', 'b')
    if is_finished: tell(hub, 'completed')
    late = hub.subscribe('j1', forged.replace('{e}', hub._epoch))
    say(hub, 'c')
    tell(hub, 'completed')
    events = await all_of(late)
    assert events[0].type == 'snapshot' and [e.name for e in events].count('completed') == 1
    assert events[-1].name == 'completed' and text_of(events) == ('ab' if is_finished else 'abc')

@on_loop
async def test_id_of_another_life_another_job_another_stream() -> None:
    before, hub = SSEHub(coalesce_seconds=0), SSEHub(coalesce_seconds=0)
    for h in (before, hub):
        for j in ('j1', 'j2'):
            tell(h, 'started', j)
            say(h, 'a', job_id=j)
    ids = [(await anext(h.subscribe(j))).id for h, j in ((before, 'j1'), (hub, 'j2'), (hub, None))]
    for id in ids: assert (await anext(hub.subscribe('j1', id))).type == 'snapshot'
    assert (await anext(hub.subscribe(None, ids[1]))).type == 'snapshot'

@on_loop
async def test_old_id_gets_a_snapshot() -> None:
    hub = SSEHub(coalesce_seconds=0, max_events_per_job=10)
    tell(hub, 'started')
    first = await anext(hub.subscribe('j1'))
    words = [f'{i} ' for i in range(50)]
    say(hub, *words)
    late = hub.subscribe('j1', first.id)
    tell(hub, 'completed')
    events = await all_of(late)
    assert events[0].type == 'snapshot' and text_of(events) == ''.join(words)

@on_loop
async def test_unknown_job_may_be_on_its_way() -> None:
    hub = SSEHub()
    early = hub.subscribe('j1')
    assert (await anext(early)).data == {'job_id': 'j1', 'status': None}
    reader = asyncio.ensure_future(all_of(early))
    await asyncio.sleep(0)
    tell(hub, 'queued')
    tell(hub, 'completed')
    assert [e.name for e in await reader] == ['queued', 'completed']

@on_loop
async def test_asking_for_jobs_that_never_come_keeps_nothing() -> None:
    hub = SSEHub()
    for i in range(1000): hub.subscribe(f'made up {i}').close()
    for i in range(1000): await anext(hub.subscribe(f'made up {i}'))
    gc.collect()
    assert not hub._awaited and not hub._jobs and hub.subscribers == 0

@on_loop
async def test_all_jobs() -> None:
    hub = SSEHub(coalesce_seconds=0)
    tell(hub, 'started', 'j1')
    everything, ends = hub.subscribe(), hub.subscribe(names={'completed', 'failed'})
    hub.publish('chat:worker_started', {'job_id': None, 'plugin_id': None, 'status': 'ready', 'pid': 1})
    say(hub, 'x', job_id='j2')
    tell(hub, 'completed', 'j1')
    tell(hub, 'failed', 'j2', error='no')
    hub.close()
    events = await all_of(everything)
    assert [j['job_id'] for j in events[0].data['jobs']] == ['j1']
    assert [e.name for e in events[1:]] == ['worker_started', 'chunk', 'completed', 'failed']
    assert [e.name for e in await all_of(ends)] == ['snapshot', 'completed', 'failed']
    again = hub.subscribe(last_event_id=events[2].id)
    hub.close()
    assert [e.name for e in await all_of(again)] == ['completed', 'failed']

@on_loop
async def test_names_of_one_job() -> None:
    "Its last event comes in any case, or else a browser would come back for ever"
    hub = SSEHub(coalesce_seconds=0)
    tell(hub, 'started')
    stream = hub.subscribe('j1', names={'progress'})
    say(hub, *'abc')
    tell(hub, 'progress', progress=.5)
    tell(hub, 'completed')
    events = await all_of(stream)
    assert [e.name for e in events] == ['snapshot', 'progress', 'completed']
    assert hub.subscribe('j1', events[-1].id, names={'progress'}).is_over

# ---- What is known of a job

def test_snapshot() -> None:
    hub = SSEHub(max_text_chars=10, max_log_lines=3)
    assert hub.snapshot('j1') is None
    tell(hub, 'queued')
    assert hub.snapshot('j1')['status'] == 'pending'
    tell(hub, 'started')
    tell(hub, 'progress', progress=.25, message='loading')
    say(hub, 'never mind ', 'the rest')
    for i in range(5): tell(hub, 'log', line=f'line {i}')
    tell(hub, 'log', lines=['last'], dropped=2)
    tell(hub, 'failed', error='x' * 10**6, fault='plugin_error', traceback='...', progress=.25, message='loading')
    seen = hub.snapshot('j1')
    assert len(seen.pop('error')) < 21_000
    assert seen == {'job_id': 'j1', 'worker_type': 'chat', 'plugin_id': 'llm', 'status': 'failed', 'attempt': 1,
                    'progress': .25, 'message': 'loading', 'fault': 'plugin_error', 'text': 'd the rest',
                    'text_dropped': 9, 'lines': ['line 3', 'line 4', 'last'], 'lines_dropped': 5}

def test_those_who_come_at_once_share_a_snapshot() -> None:
    hub = SSEHub(coalesce_seconds=0)
    tell(hub, 'started')
    first, second = (hub.subscribe('j1')._first for _ in range(2))
    assert first is second
    say(hub, 'a')
    third = hub.subscribe('j1')._first
    assert third is not first and third.data['text'] == 'a' and first.data['text'] == ''   # type: ignore[union-attr]
    tell(hub, 'completed')
    tell(hub, 'log', line='late')
    assert hub.subscribe('j1')._first.data['lines'] == ['late']   # type: ignore[union-attr]

def test_another_attempt_begins_its_text_anew() -> None:
    hub = SSEHub()
    tell(hub, 'started')
    say(hub, 'first')
    tell(hub, 'queued', attempt=2)
    tell(hub, 'started', attempt=2)
    say(hub, 'second')
    assert hub.snapshot('j1')['text'] == 'second' and hub.snapshot('j1')['attempt'] == 2

@on_loop
async def test_nothing_happens_to_a_job_after_its_end() -> None:
    hub = SSEHub(coalesce_seconds=0)
    tell(hub, 'started')
    tell(hub, 'completed')
    for name in ('completed', 'failed', 'progress', 'started'): tell(hub, name, error='late')
    say(hub, 'late')
    tell(hub, 'log', line='printed at the end')
    assert hub.snapshot('j1')['status'] == 'completed' and hub.snapshot('j1')['text'] == ''
    assert hub.snapshot('j1')['lines'] == ['printed at the end']
    events = await all_of(hub.subscribe('j1'))
    assert [e.name for e in events] == ['snapshot', 'completed']
    assert await all_of(hub.subscribe('j1', events[-1].id)) == []

@on_loop
async def test_id_that_is_used_again() -> None:
    "An app that names its jobs itself may use a name again, once the job is cleared"
    hub = SSEHub()
    tell(hub, 'completed')
    seen = await all_of(hub.subscribe('j1'))
    tell(hub, 'queued')
    again = hub.subscribe('j1', seen[-1].id)
    assert (await anext(again)).data['status'] == 'pending'
    tell(hub, 'cancelled')
    assert [e.name for e in await all_of(again)] == ['cancelled']

@on_loop
async def test_forgotten_jobs_end_their_streams() -> None:
    hub = SSEHub()
    tell(hub, 'started')
    stream = hub.subscribe('j1')
    reader = asyncio.ensure_future(all_of(stream))
    await asyncio.sleep(0)
    hub.forget('j1')
    assert [e.name for e in await reader] == ['snapshot'] and stream.end_reason == 'forgotten'
    assert hub.snapshot('j1') is None

def test_oldest_finished_jobs_go_first_then_waiting_ones() -> None:
    hub = SSEHub(max_jobs=10)
    tell(hub, 'started', 'runs')
    for i in range(5): tell(hub, 'queued', f'w{i}')
    for i in range(5): tell(hub, 'completed', f'f{i}')
    assert list(hub._finished) == ['f1', 'f2', 'f3', 'f4']
    for i in range(5, 20): tell(hub, 'queued', f'w{i}')
    assert not hub._finished and len(hub._jobs) == 10 and list(hub._active) == ['runs']
    say(hub, 'x', job_id='runs')
    assert hub.snapshot('runs')['text'] == 'x'

# ---- Batches

@on_loop
async def test_chunks_within_the_interval_are_one_event() -> None:
    hub = SSEHub(coalesce_seconds=.2)
    tell(hub, 'started')
    stream = hub.subscribe('j1')
    await anext(stream)
    say(hub, 'first')
    assert (await asyncio.wait_for(anext(stream), .15)).data['chunk'] == 'first'   # at once
    say(hub, *'abc')
    tell(hub, 'progress', progress=.1)
    tell(hub, 'progress', progress=.2)
    say(hub, *'def')
    events = [await anext(stream), await anext(stream)]
    assert [(e.name, e.data.get('chunk'), e.data.get('progress')) for e in events] == [
        ('chunk', 'abcdef', None), ('progress', None, .2)]
    say(hub, 'x')
    tell(hub, 'completed')   # whatever waits goes first
    assert [e.name for e in await all_of(stream)] == ['chunk', 'completed']

@on_loop
async def test_fast_stream_is_few_events() -> None:
    hub = SSEHub()
    tell(hub, 'started')
    stream = hub.subscribe('j1')
    reader = asyncio.ensure_future(all_of(stream))
    began, n = time.monotonic(), 0
    while time.monotonic() - began < 1:
        say(hub, f'{n} ')
        n += 1
        if n % 100 == 0: await asyncio.sleep(0)
    tell(hub, 'completed')
    events = await reader
    assert text_of(events) == ''.join(f'{i} ' for i in range(n))
    assert n > 2000 and len(events) < 45

@on_loop
async def test_flood_of_log_lines() -> None:
    hub = SSEHub(coalesce_seconds=.05)
    tell(hub, 'started')
    stream = hub.subscribe('j1')
    reader = asyncio.ensure_future(all_of(stream))
    for i in range(20_000): tell(hub, 'log', line=f'line {i}')
    tell(hub, 'completed')
    logs = [e.data for e in await reader if e.name == 'log']
    assert all(len(d['lines']) <= 100 and d['line'] == '\n'.join(d['lines']) for d in logs)
    assert sum(len(d['lines']) + d['dropped'] for d in logs) == 20_000
    seen = hub.snapshot('j1')
    assert seen['lines'][-1] == 'line 19999' and len(seen['lines']) + seen['lines_dropped'] == 20_000

@on_loop
async def test_batch_of_before_anybody_listened() -> None:
    "It is in the snapshot, and does not come again"
    hub = SSEHub(coalesce_seconds=5)
    tell(hub, 'started')
    say(hub, *'abc')
    stream = hub.subscribe('j1')
    say(hub, *'de')
    assert (await anext(stream)).data['text'] == 'abc'
    tell(hub, 'completed')
    assert [(e.name, e.data.get('chunk')) for e in await all_of(stream)] == [('chunk', 'de'), ('completed', None)]

# ---- Subscribers

@on_loop
async def test_one_that_does_not_read_is_dropped() -> None:
    hub = SSEHub(coalesce_seconds=0, subscriber_buffer=50)
    tell(hub, 'started')
    asleep, awake = hub.subscribe('j1'), hub.subscribe('j1')
    await anext(asleep)   # it has begun
    reader = asyncio.ensure_future(all_of(awake))
    for i in range(200):
        say(hub, f'{i} ')
        await asyncio.sleep(0)
    while hub.subscribers > 1: await asyncio.sleep(.01)   # without anybody asking it
    assert asleep.end_reason == 'slow' and await all_of(asleep) == []
    tell(hub, 'completed')
    whole = ''.join(f'{i} ' for i in range(200))
    assert text_of(await reader) == whole and text_of(await all_of(hub.subscribe('j1', 'x'))) == whole

@on_loop
async def test_come_back_too_far_behind_is_a_snapshot_and_no_drop() -> None:
    hub = SSEHub(coalesce_seconds=0, subscriber_buffer=10, max_events_per_job=1000)
    tell(hub, 'started')
    first = await anext(hub.subscribe('j1'))
    say(hub, *'abcdefghijklmnop')
    tell(hub, 'completed')
    events = await all_of(hub.subscribe('j1', first.id))
    assert [e.name for e in events] == ['snapshot', 'completed']

@on_loop
async def test_subscriptions_that_are_left() -> None:
    "By a break, by a cancel, before the first event, by close"
    hub = SSEHub()
    tell(hub, 'started')
    async for _ in hub.subscribe('j1'): break
    task = asyncio.ensure_future(all_of(hub.subscribe('j1')))
    await asyncio.sleep(.01)
    assert hub.subscribers == 1
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    del task
    hub.subscribe('j1')
    closed = hub.subscribe('j1')
    await closed.aclose()
    assert await all_of(closed) == []
    while hub.subscribers:
        gc.collect()
        await asyncio.sleep(.01)
    while hub._keepers: await asyncio.sleep(.05)   # nobody is left to look after

@on_loop
async def test_a_sleeper_is_kept_alive() -> None:
    "Nobody holds the task but the loop, weakly, and the future that it waits for"
    hub, heard = SSEHub(), []
    tell(hub, 'started')
    async def read() -> None: heard.extend([e.name async for e in hub.subscribe('j1')])
    asyncio.ensure_future(read())
    await asyncio.sleep(.01)
    gc.collect()
    tell(hub, 'completed')
    while not heard: await asyncio.sleep(.01)
    assert heard == ['snapshot', 'completed']

@on_loop
async def test_limit() -> None:
    hub = SSEHub(max_subscribers=2)
    tell(hub, 'started')
    kept = [hub.subscribe('j1'), hub.subscribe()]
    with pytest.raises(TooManySubscribers): hub.subscribe('j1')
    kept.pop().close()
    kept.append(hub.subscribe('j1'))
    tell(hub, 'completed')
    for s in kept: await all_of(s)
    kept.append(hub.subscribe())

@on_loop
async def test_close_ends_all_and_the_hub_lives_on() -> None:
    hub = SSEHub()
    tell(hub, 'started')
    streams = [hub.subscribe('j1'), hub.subscribe()]
    readers = [asyncio.ensure_future(all_of(s)) for s in streams]
    unread = hub.subscribe('j1')
    await asyncio.sleep(.01)
    threading.Thread(target=hub.close).start()
    assert [[e.name for e in r] for r in await asyncio.gather(*readers)] == [['snapshot'], ['snapshot']]
    assert [e.name for e in await all_of(unread)] == ['snapshot'] and hub.subscribers == 0
    later = hub.subscribe('j1')
    tell(hub, 'completed')
    assert [e.name for e in await all_of(later)] == ['snapshot', 'completed']

def test_a_loop_that_was_closed_is_forgotten() -> None:
    hub = SSEHub(coalesce_seconds=0)
    tell(hub, 'started')
    async def begin() -> Subscription:
        s = hub.subscribe('j1')
        await anext(s)
        asyncio.ensure_future(anext(s))
        await asyncio.sleep(.01)
        return s
    left = asyncio.run(begin())
    say(hub, 'a')
    hub.close()
    async def follow() -> list[SSEEvent]:
        s = hub.subscribe('j1')
        tell(hub, 'completed')
        return await all_of(s)
    assert text_of(asyncio.run(follow())) == 'a'
    assert all(not loop.is_closed() for loop in hub._keepers) or len(hub._keepers) == 1
    left.close()

def test_publishing_from_threads_and_reading_on_loops() -> None:
    "Four threads publish, two loops read, clients come and go: each sees each job's events in order, and once"
    hub, n_jobs, words = SSEHub(), 40, [f'{i} ' for i in range(60)]
    problems: list[Any] = []
    def publish(seed: int) -> None:
        rng = random.Random(seed)
        for i in range(seed, n_jobs, 4):
            tell(hub, 'started', f'j{i}')
            for word in words:
                say(hub, word, job_id=f'j{i}')
                if rng.random() < .1: time.sleep(.001)
            tell(hub, 'completed', f'j{i}')
    async def follow(job_id: str, rng: random.Random) -> None:
        seen: list[SSEEvent] = []
        while not seen or seen[-1].name != 'completed':
            subscription = hub.subscribe(job_id, seen[-1].id if seen else None)
            async for event in subscription:
                if event.data.get('status') is None: continue   # not there yet
                seen.append(event)
                if rng.random() < .1: break
        names = [e.name for e in seen]
        if text_of(seen) != ''.join(words) or names.count('completed') != 1: problems.append((job_id, names))
    async def read(seed: int) -> None:
        rng = random.Random(seed)
        jobs = [follow(f'j{i}', rng) for i in range(n_jobs)]
        await asyncio.wait_for(asyncio.gather(*jobs), 40)
    threads = [threading.Thread(target=publish, args=(i,)) for i in range(4)]
    threads += [threading.Thread(target=asyncio.run, args=(read(i),)) for i in range(2)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert problems == [] and hub.subscribers == 0

# ---- Cost

@on_loop
async def test_publishing_does_not_depend_on_the_number_of_subscribers() -> None:
    hub = SSEHub(coalesce_seconds=0)
    tell(hub, 'started')
    async def cost() -> float:
        took = []
        for _ in range(50):
            at = time.perf_counter()
            say(hub, 'x')
            took.append(time.perf_counter() - at)
            await asyncio.sleep(0)
        return sorted(took)[25]
    alone = await cost()
    readers = [asyncio.ensure_future(all_of(hub.subscribe('j1'))) for _ in range(1000)]
    await asyncio.sleep(.05)
    many = await cost()
    print(f'{alone * 1e6:.0f} µs alone, {many * 1e6:.0f} µs with a thousand')
    assert many < .005
    tell(hub, 'completed')
    await asyncio.gather(*readers)

@pytest.mark.limit(60 + 600 * SCALE)
def test_memory_is_bounded() -> None:
    "Many finished jobs, many chunks: what is kept does not grow with what has been"
    hub, jobs, chunks = SSEHub(), int(100_000 * SCALE), int(1_000_000 * SCALE)
    def live() -> None:
        for i in range(jobs):
            tell(hub, 'started', f'j{i}')
            say(hub, 'some words of an answer ' * 4, job_id=f'j{i}')
            tell(hub, 'completed', f'j{i}')
        tell(hub, 'started', 'long')
        for i in range(chunks): say(hub, f'{i} ', job_id='long')
    live()   # full
    gc.collect()
    tracemalloc.start()
    live()
    gc.collect()
    grown, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    print(f'{jobs} jobs, {chunks} chunks: {grown / 2**20:.1f} MB allocated and kept, at most {peak / 2**20:.1f} MB')
    assert peak < 64 * 2**20 and len(hub._jobs) <= 1000
    assert sum(len(j.log.events) for j in hub._jobs.values()) < 64 * 8 + 1000 + 2000

def test_one_large_text_after_the_other_is_bounded_too() -> None:
    hub = SSEHub(coalesce_seconds=0)
    for i in range(300):
        tell(hub, 'started', f'j{i}')
        for _ in range(2): say(hub, chr(97 + i % 26) * 1_000_000, job_id=f'j{i}')
        tell(hub, 'completed', f'j{i}')
    kept = {id(e): len(e.data.get('chunk', '')) for log in [hub._log, *(j.log for j in hub._jobs.values())]
            for e in log.events}
    assert sum(kept.values()) < 40_000_000 and hub.snapshot('j299')['text_dropped'] == 1_900_000

@pytest.mark.parametrize('nonsense', [{'max_jobs': 0}, {'subscriber_buffer': -1}, {'heartbeat_seconds': 0},
                                      {'coalesce_seconds': -1}, {'stall_seconds': float('nan')}])
def test_nonsense_is_refused(nonsense: dict[str, float]) -> None:
    with pytest.raises(ValueError): SSEHub(**nonsense)   # type: ignore[arg-type]
