"""Runs a Ray with room for two workers, prints its address, and ends it at the end of its input.

`ray start` and `ray.cluster_utils.Cluster` would do the same, but they also write the address to a
file of the machine, and then every search on the machine joins that cluster.
"""

import sys

import ray


def start(attempts: int = 3) -> None:
    """Start it; on a busy machine that can take longer than the 30 seconds that Ray waits."""
    for attempt in range(1, attempts + 1):
        try:
            ray.init(
                address="local",
                num_cpus=2,
                num_gpus=0,
                include_dashboard=False,
                _node_ip_address="127.0.0.1",
            )
            return
        except Exception:
            ray.shutdown()
            if attempt == attempts:
                raise


if __name__ == "__main__":
    start()
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
