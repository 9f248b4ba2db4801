# The service with its command `inventory`. `docker run IMAGE` serves, `docker run IMAGE migrate` migrates.
FROM python:3.13-slim AS build
WORKDIR /source
# Dependencies change less often than the code, so they have a layer of their own.
COPY pyproject.toml constraints.txt ./
RUN python -m venv /venv \
  && python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
extras = project['optional-dependencies']; \
print(*project['dependencies'], *extras['redis'], *extras['xlsx'], \
*extras['opentelemetry'], sep='\n')" \
  > requirements.txt \
  && /venv/bin/pip install --no-cache-dir --constraint constraints.txt --requirement requirements.txt
# This also builds the pages of GraphiQL and the REST reference.
COPY . .
RUN /venv/bin/pip install --no-cache-dir --no-deps .

FROM python:3.13-slim
LABEL org.opencontainers.image.title="Inventory API" \
  org.opencontainers.image.description="Stock levels across warehouses, over GraphQL and REST" \
  org.opencontainers.image.licenses="Apache-2.0"
RUN mkdir /data && chown 10001:10001 /data
COPY --from=build /venv /venv
# A number, so that Kubernetes can check that it is not root.
USER 10001:10001
WORKDIR /data
VOLUME /data
ENV PATH=/venv/bin:$PATH PORT=8000
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s CMD ["python", "-c", \
  "import os; from urllib.request import urlopen; \
urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=2)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["inventory"]
CMD ["serve", "--host", "0.0.0.0"]
