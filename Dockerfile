# talos-pxe as a container image: the static daemon, iPXE's binaries, and nothing else.
#
#   docker build --tag talos-pxe .
#
# compiles it in the first stage. `cargo xtask container` compiles it outside, puts the result in
# the place of that stage, and needs neither Docker nor a registry.

FROM rust:1-bookworm AS build
WORKDIR /source
COPY . .
RUN cargo xtask container --tree /image

FROM scratch
COPY --from=build /image/ /
# What is served, and what must survive a restart.
ENV TALOS_PXE_ROOT=/srv TALOS_PXE_STATE=/state
VOLUME /state
ENTRYPOINT ["/usr/bin/talos-pxe"]
