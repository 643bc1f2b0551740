# The commands of the README in a container, without installing anything else:
#
#   docker build -t ldmseg .
#   docker run --rm -v "$PWD:/data" ldmseg segment photo.jpg -o out
#
# For NVIDIA GPUs: docker build --build-arg TORCH_INDEX=https://pypi.org/simple -t ldmseg . && docker run --gpus all ..
FROM python:3.12-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
WORKDIR /opt/ldmseg
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src src
RUN pip install --no-cache-dir --extra-index-url "${TORCH_INDEX}" --constraint constraints.txt '.[video]'

WORKDIR /data
ENTRYPOINT ["ldmseg"]
CMD ["--help"]
