# pullpass' image: one static program, the public certificate authorities, no shell. `make image` builds the same without a
# container engine. For several architectures, each built on (or emulated as) its own:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --tag registry.example.com/pullpass:0.1.0 --push .
FROM rust:1.95-bookworm AS build
# What `pullpass version` says: --build-arg PULLPASS_COMMIT="$(git rev-parse HEAD)".
ARG PULLPASS_COMMIT
ARG SOURCE_DATE_EPOCH
WORKDIR /src
COPY . .
RUN mv "$(image/build.sh)" /pullpass \
    && mkdir -p /root-fs/etc/ssl/certs /root-fs/usr/local/bin \
    && mv /pullpass /root-fs/usr/local/bin/pullpass \
    && cp /etc/ssl/certs/ca-certificates.crt /root-fs/etc/ssl/certs/ \
    && echo 'nonroot:x:65532:65532:nonroot:/:/sbin/nologin' >/root-fs/etc/passwd \
    && echo 'nonroot:x:65532:' >/root-fs/etc/group \
    && mkdir /root-fs/licenses \
    && cp LICENSE NOTICE THIRD-PARTY-LICENSES /root-fs/licenses/

FROM scratch
LABEL org.opencontainers.image.licenses=Apache-2.0 org.opencontainers.image.title=pullpass org.opencontainers.image.version=0.1.0
COPY --from=build /root-fs /
USER 65532:65532
ENTRYPOINT ["/usr/local/bin/pullpass"]
CMD ["--help"]
