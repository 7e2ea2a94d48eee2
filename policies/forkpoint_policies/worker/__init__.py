"""The engine process: request slots, the wire format of records, and one adapter per vLLM runner."""
