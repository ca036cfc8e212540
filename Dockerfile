# syntax=docker/dockerfile:1
# docker build -t upwarden .
# docker buildx build --platform linux/amd64,linux/arm64 .     compiles for both on this machine's own architecture, without emulation
#
# The base images are named by tag, so that a build gets their security updates. A release pins them: it resolves the tags to digests
# and passes those as RUST_IMAGE and RUNTIME_IMAGE (.github/workflows/release.yml).
ARG RUST_IMAGE=rust:1.95-slim-bookworm
ARG RUNTIME_IMAGE=gcr.io/distroless/base-nossl-debian12:nonroot

FROM --platform=$BUILDPLATFORM ${RUST_IMAGE} AS build
ARG TARGETARCH
# Lists the crates inside the program, where scanners of images find them.
RUN cargo install --locked --root /usr/local cargo-auditable@0.7.7
# A C compiler for the other architecture.
RUN set -eu; here=$(dpkg --print-architecture); \
    case "${TARGETARCH:=$here}" in \
        amd64) cpu=x86_64 ;; \
        arm64) cpu=aarch64 ;; \
        *) echo "there is no build for $TARGETARCH" >&2; exit 1 ;; \
    esac; \
    gcc=gcc; \
    if [ "$TARGETARCH" != "$here" ]; then \
        gcc=$cpu-linux-gnu-gcc; \
        apt-get update; \
        apt-get install -y --no-install-recommends "gcc-$(echo $cpu | tr _ -)-linux-gnu" "libc6-dev-$TARGETARCH-cross"; \
        rm -rf /var/lib/apt/lists/*; \
        rustup target add "$cpu-unknown-linux-gnu"; \
    fi; \
    echo "$cpu-unknown-linux-gnu" >/target; \
    echo "$gcc" >/gcc; \
    # Missing in the C library's image: it unwinds the stack of a task that panics.
    install -D "$($gcc -print-file-name=libgcc_s.so.1)" "/root-files/usr/lib/$cpu-linux-gnu/libgcc_s.so.1"
WORKDIR /build
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/build/target \
    set -eu; target=$(cat /target); variable=$(echo "$target" | tr a-z- A-Z_); \
    env "CARGO_TARGET_${variable}_LINKER=$(cat /gcc)" "CC_$(echo "$target" | tr - _)=$(cat /gcc)" \
        cargo auditable build --profile dist --locked --bin upwarden --target "$target"; \
    install -D "target/$target/dist/upwarden" /root-files/usr/local/bin/upwarden

# The C library, CA certificates and an unprivileged user; no shell, no package manager.
FROM ${RUNTIME_IMAGE}
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="upwarden" \
      org.opencontainers.image.description="An authentication sidecar for the Upwork API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.source="$SOURCE"
COPY --from=build /root-files/ /
# An upwarden.toml in this folder is read; without one, the environment is enough.
WORKDIR /etc/upwarden
USER 65532:65532
# The public door. It listens on loopback until public.listen says otherwise.
EXPOSE 4180
# Only in Docker's image format: buildah and podman drop it unless they are run with --format docker.
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s CMD ["/usr/local/bin/upwarden", "health"]
ENTRYPOINT ["/usr/local/bin/upwarden"]
