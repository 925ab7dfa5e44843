"""The local HTTP API of a node: what commands and other programs of the same user speak to.

* `app` routes requests; `node`, `records` and `peer_records` hold the routes, `bulk_import` reads imports.
* `requests` checks what came in, `json_forms` says how records, times and events look in JSON, `responses` and
  `streams` send answers, `problems` gives each error a status and a code.
* `page_routes` serves the status page, whose files stand in `page/`, and `page_sessions` signs browsers in.
* `echo_sync` speaks to clients of the Echo Sync Protocol, `metrics` to Prometheus.
* `server` listens on the Unix socket and on loopback TCP, where `access` asks for the token (`token` gives it out) and
  `http_protocol` bounds connections; `shutdown` ends what waits when the server stops.

proto/openapi.yaml describes every path. The decisions are the node's: a route translates a request into one call and
its result into JSON.
"""
