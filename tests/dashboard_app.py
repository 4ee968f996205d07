"""An app with a dashboard, served by the tests: `python -m tests.dashboard_app --port 5001 --vendor FOLDER`."""
import argparse
import json
from pathlib import Path

import uvicorn
from fasthtml.common import FastHTML, Link, P, Script, Titled, fast_app
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from cjm_fasthtml_workers.core.config import JobOptions, WorkerConfig
from cjm_fasthtml_workers.core.protocol import Fault, JobStatus
from cjm_fasthtml_workers.extensions.dashboard import DAISYUI, MONSTERUI, JobCard, Limits, job_routes
from cjm_fasthtml_workers.managers.jobs import BaseJob, JobRecord
from cjm_fasthtml_workers.managers.simple import SimpleJobManager
from tests.hostile import hostile_strings

HERE = 'tests.support_plugins.pages'
LONG = 'a-plugin-whose-name-is-longer-than-it-needs-to-be-v2'
PLUGINS = {'talker': f'{HERE}:Talker', 'boom': f'{HERE}:Boom', 'stuck': f'{HERE}:Stuck', 'echo': f'{HERE}:Echo',
           'silent': f'{HERE}:Silent', LONG: f'{HERE}:Echo'}
CONFIGS = {'talker': {'model': 'tiny', 'api_key': 'sesame-open-7', 'hub': 'https://me:hunter-2-pw@hub.local/x'}}


class Manager(SimpleJobManager):
    "Jobs may be given an id; those that are over without ever having run are put into the book by hand."

    def create_job(self, plugin_id, job_id=None, **params):
        job = super().create_job(plugin_id, **params)
        if job_id is not None:
            self._params[job_id] = self._params.pop(job.id)
            job.id = job_id
        return job


def make_managers(hostile: bool) -> list[Manager]:
    config = WorkerConfig(cancel_grace_seconds=1, shutdown_timeout_seconds=1, max_finished_jobs=20_000)
    texts = ['plain', *hostile_strings()] if hostile else []
    plugins = PLUGINS | {text: PLUGINS['echo'] for text in texts}
    configs = CONFIGS | {text: {text: 'value', 'key': text} for text in texts}
    return [Manager(plugins, 'talk', configs=configs, worker_config=config, keep_params=True),
            Manager(PLUGINS, 'other', worker_config=config, keep_params=True)]


MONSTER_THEME = """document.documentElement.classList.add('uk-theme-blue', 'uk-radii-sm', 'uk-shadows-sm', 'uk-font-sm')
document.documentElement.classList.toggle('dark', matchMedia('(prefers-color-scheme: dark)').matches)"""


def headers(vendor: str, style: str) -> list:
    "Pico, daisyUI or what MonsterUI stands on, and htmx if it is there, from this machine."
    names = {'pico': ['pico.min.css'], 'daisy': ['daisyui.css'], 'monster': ['franken-ui.css'], 'none': []}[style]
    found = [Script(MONSTER_THEME)] if style == 'monster' else []
    found += [Link(rel='stylesheet', href=f'/vendor/{n}') for n in names if (Path(vendor)/n).exists()]
    if (Path(vendor)/'htmx.min.js').exists() and style != 'none': found.append(Script(src='/vendor/htmx.min.js'))
    return found


def make_app(vendor: str = '', style: str = 'pico', owners: bool = False, several: bool = False,
             hostile: bool = False, **options) -> FastHTML:
    "The app."
    managers = make_managers(hostile)
    first = managers[0]
    async def lifespan(app):
        async with first.lifespan(app):
            yield
            await managers[1].aclose()
    routes = [Mount('/vendor', StaticFiles(directory=vendor))] if vendor else []
    body = {'class': 'bg-background text-foreground'} if style == 'monster' else {}
    app, rt = fast_app(pico=False, bodykw=body, hdrs=headers(vendor, style), default_hdrs=False, secret_key='tests',
                       lifespan=lifespan, routes=routes)
    if owners:
        options |= {'authorize': lambda request, action, job: 'user' in request.headers,
                    'owner_of': lambda request: request.headers.get('user')}
    limits = Limits(streams=5, cancels=30, starts=10) if options.pop('strict', False) else Limits(cancels=10_000)
    classes = {'daisy': DAISYUI, 'monster': MONSTERUI}.get(style)
    jobs = job_routes(managers if several else first, limits=limits, classes=classes, **options)
    jobs.to_app(app)
    app.state.jobs = jobs

    @rt('/start/{plugin}', methods=['post'])
    async def start(plugin: str, request: Request):
        body = await request.json()
        options = JobOptions(owner=body.pop('owner', None))
        manager = managers[body.pop('manager', 0)]
        job = await manager.start_job(plugin, job_options=options, **body)
        return JSONResponse({'id': job.id, 'url': jobs.look_of('' if not several else manager.worker_type).url(job)})

    @rt('/own')
    async def own():
        cards = [JobCard(j, jobs.look) for j in first.get_all_jobs()[-3:]]
        return Titled('My own page', P('With a card.'), *cards)

    @rt('/brief')
    async def brief():
        cards = [JobCard(j, jobs.look, has_text=False) for j in first.get_all_jobs()[-3:]]
        return Titled('Without text', *cards)

    @rt('/many', methods=['post'])
    async def many(count: int):
        for n in range(count): finish_by_hand(first, n)
        return JSONResponse({'kept': len(first.get_all_jobs())})

    @rt('/hostile', methods=['post'])
    async def run_hostile():
        texts = [*hostile_strings(), 'plain']
        for fails, text in ((f, t) for f in (False, True) for t in texts):
            await first.start_job(text, job_id=text + ' fails' * fails, text=text, fails=fails)
        for job in first.get_all_jobs(): await first.wait_for_job(job.id, 60)
        urls = {job.id: jobs.look.url(job) for job in first.get_all_jobs()}
        return Response(json.dumps(urls), media_type='application/json')   # also with half a surrogate pair

    @rt('/cards')
    async def cards(start: int, count: int):
        return Titled('Cards', *[JobCard(j) for j in first.get_all_jobs()[start:start + count]])

    @rt('/newest')
    async def newest(count: int):
        return Titled('Newest', *[JobCard(j, jobs.look) for j in reversed(first.get_all_jobs()[-count:])])

    @rt('/stats')
    async def stats(): return JSONResponse(first.get_stats() | {'streams': jobs.watch.hub.subscribers})

    @rt('/job/{id:path}')
    async def job(id: str):
        found = next((j for m in managers if (j := m.get_job(id))), None)
        return JSONResponse({'status': found.status if found else None, 'error': found.error if found else None})
    return app


def finish_by_hand(manager: Manager, n: int) -> None:
    "A job in the book that no worker has seen."
    record = JobRecord(BaseJob(f'old-{n:05}', 'talker'), JobOptions(), 'talker')
    manager._book.add(record)
    end = (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED)[n % 3]
    manager._book.start(record, None, None)
    manager._book.finish(record, end, *([Fault.PLUGIN_ERROR, 'ValueError: no'] if end == 'failed' else []))


if __name__ == '__main__':
    parser = argparse.ArgumentParser()
    parser.add_argument('--port', type=int, default=5001)
    parser.add_argument('--vendor', default='')
    parser.add_argument('--style', default='pico')
    for flag in ('owners', 'several', 'strict', 'hostile'): parser.add_argument(f'--{flag}', action='store_true')
    args = parser.parse_args()
    app = make_app(args.vendor, args.style, args.owners, args.several, args.hostile,
                   **({'strict': True} if args.strict else {}))
    uvicorn.run(app, port=args.port, log_level='warning', timeout_graceful_shutdown=5)
