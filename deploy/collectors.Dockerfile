# `collectors run` alone: no tracker's server, no database. From the repository's root:
#   docker build -f deploy/collectors.Dockerfile -t message-tracker-collectors .
# Only what one system needs: --build-arg EXTRAS=metrics,kafka
FROM python:3.11-slim AS build
RUN pip install --no-cache-dir uv
WORKDIR /src
COPY pyproject.toml requirements.lock README.md LICENSE ./
COPY scripts scripts
COPY tracker tracker
COPY collectors collectors
COPY dashboards dashboards
COPY alerts alerts
COPY docs/runbooks docs/runbooks
ARG EXTRAS=metrics,kafka,rabbitmq,nats,postgres,redis,mqtt
# The versions are those of the lock; packages that no extra here asks for are left out.
RUN uv venv /opt/collectors \
    && uv pip install --python /opt/collectors/bin/python --constraint requirements.lock --compile-bytecode \
        ".[${EXTRAS}]"

FROM python:3.11-slim
# A number, so that Kubernetes can see that it is not root. The spool is the only place that is written to.
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /var/lib/collectors collectors \
    && install --directory --owner=10001 --group=10001 --mode=0700 /var/lib/collectors
COPY --from=build /opt/collectors /opt/collectors
ENV PATH=/opt/collectors/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
WORKDIR /var/lib/collectors
VOLUME /var/lib/collectors
EXPOSE 9464
# `listen` of the configuration has to have this port. SIGTERM ends it in order, SIGHUP reads the configuration again.
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9464/healthz', timeout=4)"]
ENTRYPOINT ["collectors"]
CMD ["run", "/etc/collectors/config.yaml"]
