# The serve environment: vLLM's OpenAI-compatible server on the vLLM folder of a bundle.
#   docker build -f infra/images/serve.Dockerfile -t opsin-serve .
#   docker run -p 127.0.0.1:8000:8000 -v BUNDLE/vllm:/model:ro opsin-serve --dtype bfloat16 --enforce-eager
# NVIDIA: --build-arg REQUIREMENTS=serve-cuda.in --build-arg TORCH_BACKEND=auto, and run with --gpus all.
FROM python:3.11-slim-bookworm
ARG REQUIREMENTS=serve.txt
ARG TORCH_BACKEND=cpu
# vLLM compiles kernels when it starts, and links libnuma on CPU.
RUN apt-get update && apt-get install -y --no-install-recommends g++ libnuma1 \
    && rm -rf /var/lib/apt/lists/* \
    && pip install --no-cache-dir 'uv>=0.9' && useradd --create-home --uid 10001 opsin
WORKDIR /opsin
COPY infra/requirements infra/requirements
# The overrides leave out what has no build beside the CPU torch; CUDA builds of vLLM want it.
RUN overrides="--override infra/requirements/serve-overrides.txt"; \
    if [ "$REQUIREMENTS" != serve.txt ]; then overrides=; fi; \
    uv pip install --system --no-cache --torch-backend "$TORCH_BACKEND" $overrides -r "infra/requirements/$REQUIREMENTS"
ENV HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 DO_NOT_TRACK=1
USER opsin
EXPOSE 8000
HEALTHCHECK --start-period=180s CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health')"]
ENTRYPOINT ["python", "-m", "vllm.entrypoints.openai.api_server", "--model", "/model", "--served-model-name", "opsin"]
