# scX in a container, for one person or behind a proxy (docs/lab.md):
#   docker build -t scx-circuits .
#   docker run --rm -p 127.0.0.1:8501:8501 -v "$PWD:/work" --user "$(id -u):$(id -g)" scx-circuits
# With CUDA: docker build --build-arg TORCH=cu128 -t scx-circuits:cuda .   and   docker run --gpus all ...
# Any other command: docker run --rm -v "$PWD:/work" scx-circuits demo
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS wheel
WORKDIR /src
COPY pyproject.toml README.md LICENSE app.py ./
COPY scx_core ./scx_core
COPY pages ./pages
COPY models ./models
COPY .streamlit ./.streamlit
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /dist .

FROM python:${PYTHON}-slim
# Which build of PyTorch: cpu, or one for CUDA such as cu126, cu128.
ARG TORCH=cpu
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --index-url "https://download.pytorch.org/whl/${TORCH}" \
        "$(grep '^torch==' /tmp/requirements.txt)" \
    && pip install --no-cache-dir -r /tmp/requirements.txt
COPY --from=wheel /dist/ /tmp/dist/
RUN pip install --no-cache-dir --no-deps /tmp/dist/*.whl && pip check && rm -r /tmp/dist

# The mounted folder: files of cells, and `runs` with everything that is made. Any user may run it (--user).
RUN useradd --create-home --uid 1000 scx && mkdir /work && chown scx:scx /work
ENV HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    NUMBA_CACHE_DIR=/tmp/numba \
    HF_HOME=/work/.cache/huggingface \
    PYTHONUNBUFFERED=1
USER 1000
WORKDIR /work
VOLUME /work
EXPOSE 8501
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://localhost:8501/_stcore/health', timeout=4)"]
ENTRYPOINT ["scx"]
# Inside the container it listens to all addresses; which of them are reached, -p of `docker run` says.
CMD ["app", "--host", "0.0.0.0", "--port", "8501", "--no-browser"]
