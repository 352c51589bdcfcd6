# An MLflow server on PostgreSQL, artifacts in a folder or in object storage:
#
#   docker build -f scripts/docker/mlflow.Dockerfile -t lesion-exp:mlflow .
FROM python:3.11.14-slim-bookworm
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
COPY scripts/constraints.txt /tmp/constraints.txt
# boto3 speaks to S3 and whatever speaks its language, psycopg to PostgreSQL
RUN pip install --constraint /tmp/constraints.txt mlflow "psycopg[binary]>=3.2,<4" "boto3>=1.35,<2" \
    && rm /tmp/constraints.txt \
    && groupadd --gid 10001 mlflow && useradd --uid 10001 --gid mlflow --home-dir /tmp --shell /usr/sbin/nologin mlflow \
    && install --directory --owner mlflow --group mlflow /artifacts
USER 10001:10001
WORKDIR /tmp
VOLUME /artifacts
EXPOSE 5000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:5000/health', timeout=4)"]
# MLFLOW_BACKEND_STORE_URI holds the password, so that no argument does
ENTRYPOINT ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--workers", "2"]
CMD ["--serve-artifacts", "--artifacts-destination", "/artifacts"]
