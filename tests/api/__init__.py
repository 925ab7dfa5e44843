"""The local API: real nodes behind real Unix sockets, every answer held to proto/openapi.yaml."""
