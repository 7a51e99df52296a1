# The quantize environment: llm-compressor on a checkpoint and calibration tensors, files in, files out.
#   docker build -f infra/images/quantize.Dockerfile -t opsin-quantize .
#   docker run -v DIR:/data opsin-quantize --checkpoint /data/checkpoint --calibration /data/calibration.safetensors --output /data/out
FROM python:3.11-slim-bookworm
ARG TORCH_BACKEND=cpu
RUN pip install --no-cache-dir 'uv>=0.9' && useradd --create-home --uid 10001 opsin
WORKDIR /opsin
COPY infra/requirements infra/requirements
RUN uv pip install --system --no-cache --torch-backend "$TORCH_BACKEND" -r infra/requirements/quantize.txt
COPY components/quantize/compress.py components/quantize/compress.py
USER opsin
# A command that ends, not a server.
HEALTHCHECK NONE
ENTRYPOINT ["python", "components/quantize/compress.py"]
