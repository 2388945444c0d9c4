"""Starts the OpenEnv server of simenv, and plays one session as a client that knows nothing of simenv."""

import socket
import threading
import time

import uvicorn
from openenv.core.generic_client import GenericEnvClient

from simenv.integrations.openenv import make_app


def main():
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(make_app(horizon=3), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.05)
    rewards = []
    try:
        with GenericEnvClient(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}").sync() as client:
            result = client.reset(seed=0)
            while not result.done:
                ad = result.observation["auction"]["bids"][0]["ad"]
                result = client.step({"response": f"Have a look at @{ad['title']}@[{ad['id']}]."})
                rewards.append(result.reward)
                print(f"reward {result.reward:.2f}, clicks {result.observation['metadata']['clicks']}")
    finally:
        server.should_exit = True
        thread.join()
    return rewards


if __name__ == "__main__":
    main()
