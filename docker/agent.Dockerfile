# An agent that runs a command for each task. CI does not build this image.
#   docker build -f docker/agent.Dockerfile -t eap-agent .
# The first stage is that of eap.Dockerfile, so that it is built once for both.
FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
# The base has the C compiler that SQLite, ring and mimalloc need, and they need nothing else.
RUN cargo build --release --locked -p eap-cli

# For an agent of yours: any base that has its command, and a libc no older than that of the first stage.
FROM debian:bookworm-slim
RUN useradd --system --uid 10001 agent
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/eap /usr/local/bin/eap
USER agent
WORKDIR /tmp
ENTRYPOINT ["eap"]
CMD ["agent", "run", "--help"]
