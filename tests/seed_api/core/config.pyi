class RestartPolicy(Enum):
    NEVER: ...
    ON_CANCELLATION: ...

@dataclass
class WorkerConfig:
    request_queue_size: int = 0
    result_queue_size: int = 100
    response_queue_size: int = 10
    restart_policy: RestartPolicy = RestartPolicy.ON_CANCELLATION
    max_restart_attempts: int = 3
    restart_backoff_base_seconds: float = 1.0
    restart_backoff_max_seconds: float = 60.0
    max_workers: int = 1
    worker_start_timeout_seconds: float = 30.0
    reload_timeout_seconds: float = 30.0
    unload_timeout_seconds: float = 10.0
    shutdown_timeout_seconds: float = 5.0
    result_monitor_poll_interval_seconds: float = 0.5
