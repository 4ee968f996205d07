"""What a plugin was given in confidence is told to nobody, whatever the plugin does with it."""
import asyncio
import logging

from cjm_fasthtml_workers.core.config import WorkerConfig
from cjm_fasthtml_workers.managers.simple import SimpleJobManager

KEY, TOKEN = 'k-8a51f00dfeed', 't-0badcafe5eed'

class Indiscreet:
    "Says its key in every way there is."
    def __init__(self, config): self.key = config['api_key']

    def execute(self, how):
        import os

        from cjm_fasthtml_workers.core.context import report_progress
        print('printed', self.key, os.environ['SERVICE_TOKEN'])
        logging.getLogger('model').warning('logged %s', self.key)
        report_progress(0.5, f'asking with {self.key}')
        if how == 'raise': raise PermissionError(f'{self.key} is not valid')
        os._exit(3)

async def told(how: str, caplog) -> tuple[str, str]:
    caplog.set_level(logging.INFO)
    config = WorkerConfig(worker_env={'SERVICE_TOKEN': TOKEN})
    manager = SimpleJobManager({'indiscreet': f'{__name__}:Indiscreet'}, worker_config=config,
                               configs={'indiscreet': {'api_key': KEY}})
    events = manager.events()
    job = await manager.wait_for_job((await manager.start_job('indiscreet', how=how)).id, timeout=30)
    logs = manager.get_job_logs(job.id)
    await manager.aclose()
    heard = [e async for e in events]
    return job.fault, '\n'.join(map(str, (vars(job), job, logs, heard, caplog.text, config, manager.worker_config)))

def test_an_error_says_no_secrets(caplog):
    fault, text = asyncio.run(told('raise', caplog))
    assert fault == 'plugin_error' and 'is not valid' in text and 'asking with' in text and 'printed' in text
    assert KEY not in text and TOKEN not in text

def test_last_words_say_no_secrets(caplog):
    fault, text = asyncio.run(told('exit', caplog))
    assert fault == 'worker_crashed' and 'printed' in text and 'logged' in text
    assert KEY not in text and TOKEN not in text
