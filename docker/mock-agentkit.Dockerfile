# The agent platform for tests. CI does not build this image.
#   docker build -f docker/mock-agentkit.Dockerfile -t mock-agentkit .
FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p mock-agentkit

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 mock
COPY --from=build /src/target/release/mock-agentkit /usr/local/bin/mock-agentkit
COPY docker/healthy /usr/local/bin/healthy
USER mock
EXPOSE 8090
ENTRYPOINT ["mock-agentkit"]
CMD ["--help"]
