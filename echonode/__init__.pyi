from echonode.client.asynchronous import AsyncClient as AsyncClient
from echonode.client.synchronous import Client as Client
from echonode.embed import Node as Node

__version__: str
__all__ = ["AsyncClient", "Client", "Node"]
