"A resource manager: which processes exist, and what each of them does."
from dataclasses import dataclass, field, replace
from typing import Any

from .strict import Strict, complain, expect


@dataclass
class WorkerState:
    pid: int
    worker_type: str
    status: str = 'idle'
    job_id: str = ''
    plugin_name: str = ''
    plugin_id: str = ''
    loaded_plugin_resource: str = ''
    config: dict[str, Any] = field(default_factory=dict)

class ResourceManagerDouble(Strict):
    "Satisfies `ResourceManagerProtocol`; `None` changes nothing, so only an empty job id clears a job"
    def __init__(self, failing: tuple[str, ...] = ()):
        super().__init__(failing)
        self._workers: dict[int, WorkerState] = {}
        self.history: list[WorkerState] = []   # every state that any worker was in
        self.gpu: Any = None                   # what `check_gpu_availability` answers

    def register_worker(self, pid: int, worker_type: str) -> None:
        expect('pid', pid, int)
        expect('worker_type', worker_type, str)
        self.note('register_worker', pid=pid, worker_type=worker_type)
        with self.lock:
            if pid in self._workers: complain(f'worker {pid} was registered already')
            self._remember(WorkerState(pid, worker_type))

    def unregister_worker(self, pid: int) -> None:
        expect('pid', pid, int)
        self.note('unregister_worker', pid=pid)
        with self.lock:
            if pid not in self._workers: complain(f'worker {pid} is not registered')
            del self._workers[pid]

    def update_worker_state(self, pid: int, status: str | None = None, job_id: str | None = None,
                            plugin_name: str | None = None, plugin_id: str | None = None,
                            loaded_plugin_resource: str | None = None, config: dict[str, Any] | None = None) -> None:
        expect('pid', pid, int)
        if config is not None: expect('config', config, dict)
        texts = dict(status=status, job_id=job_id, plugin_name=plugin_name, plugin_id=plugin_id,
                     loaded_plugin_resource=loaded_plugin_resource)
        for name, value in texts.items():
            if value is not None: expect(name, value, str)
        changes = {k: v for k, v in (texts | {'config': config}).items() if v is not None}
        self.note('update_worker_state', pid=pid, **changes)
        with self.lock:
            if pid not in self._workers: complain(f'worker {pid} is not registered')
            self._remember(replace(self._workers[pid], **changes))

    def check_gpu_availability(self) -> Any:
        self.note('check_gpu_availability')
        return self.gpu

    def get_worker_by_pid(self, pid: int) -> WorkerState | None:
        expect('pid', pid, int)
        self.note('get_worker_by_pid', pid=pid)
        with self.lock: return self._workers.get(pid)

    def workers(self) -> list[WorkerState]:
        "For the test: who is registered now"
        with self.lock: return list(self._workers.values())

    def _remember(self, state: WorkerState) -> None:
        self._workers[state.pid] = state
        self.history.append(state)
