# syntax=docker/dockerfile:1
# docker build -t upwarden .

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    cargo build --profile dist --locked --bin upwarden \
    && cp target/dist/upwarden /upwarden

# The C library, CA certificates and an unprivileged user; no shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /upwarden /usr/local/bin/upwarden
# An upwarden.toml in this folder is read; without one, the environment is enough.
WORKDIR /etc/upwarden
USER 65532:65532
# The public door. It listens on loopback until public.listen says otherwise.
EXPOSE 4180
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/usr/local/bin/upwarden", "health"]
ENTRYPOINT ["/usr/local/bin/upwarden"]
