# The command `eap`: the orchestrator, and everything that operators do. CI does not build this image.
#   docker build -f docker/eap.Dockerfile -t eap .
FROM rust:1-slim-bookworm AS build
WORKDIR /src
COPY . .
# The base has the C compiler that SQLite, ring and mimalloc need, and they need nothing else.
RUN cargo build --release --locked -p eap-cli

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --create-home --home-dir /var/lib/eap eap
# For callbacks, agents and servers behind https://.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/eap /usr/local/bin/eap
COPY docker/healthy /usr/local/bin/healthy
USER eap
WORKDIR /var/lib/eap
VOLUME /var/lib/eap
EXPOSE 8080
ENTRYPOINT ["eap"]
CMD ["serve", "--help"]
