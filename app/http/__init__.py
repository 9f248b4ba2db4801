"""HTTP: the outermost layer, JSON, errors, logs and the protocol of uvicorn."""
