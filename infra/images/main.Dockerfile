# The main environment: every stage but quantize and deploy, which need the other two environments.
#   docker build -f infra/images/main.Dockerfile -t opsin-main .      (NVIDIA: --build-arg TORCH_BACKEND=cu130)
#   docker run -v opsin:/opsin/workspace opsin-main run /opsin/configs/cpu.toml --to align
FROM node:22-bookworm-slim AS node
FROM python:3.11-slim-bookworm
ARG TORCH_BACKEND=cpu
# npm fetches sources; git is what DVC and the records ask for the code's commit.
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules/npm /usr/local/lib/node_modules/npm
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm \
    && pip install --no-cache-dir 'uv>=0.9' \
    && useradd --create-home --uid 10001 opsin \
    && install -d -o opsin -g opsin /opsin/workspace
WORKDIR /opsin
COPY infra/requirements infra/requirements
RUN uv pip install --system --no-cache --torch-backend "$TORCH_BACKEND" -r infra/requirements/main.txt
COPY . .
RUN uv pip install --system --no-cache --no-deps -e .
USER opsin
WORKDIR /opsin/workspace
# A command that ends, not a server.
HEALTHCHECK NONE
ENTRYPOINT ["opsin"]
CMD ["--help"]
