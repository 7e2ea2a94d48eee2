"""Real pretrained models in a cache folder, as directories that vLLM serves: `python -m benchmarks.models NAME`."""
