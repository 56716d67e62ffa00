# A static program in an image with nothing else: no shell, no package manager, no root.
#
#   podman build -t choreo .                                 everything in containers
#   podman build -t choreo --build-arg GUIDED=yes .          the same, guided by a profile of its own work: faster, and three times as long
#   podman build -t choreo --build-arg PROGRAM=built .       with a program that is there: build/choreo, and build/ca-certificates.crt
#
# The last needs no base image. docs/operating.md says how to make the program.
ARG PROGRAM=compiled

FROM docker.io/library/rust:1.95-alpine AS compiled
RUN apk add --no-cache build-base ca-certificates
WORKDIR /src
COPY . .
# On 64-bit Arm, kernels have pages of 4, 16 or 64 KiB, and the allocator has to be built for the largest that it may meet.
ARG GUIDED=
RUN case "$(uname -m)" in aarch64) export JEMALLOC_SYS_WITH_LG_PAGE=16 ;; esac \
 && if [ -n "$GUIDED" ]; then \
      rustup component add llvm-tools && cargo xtask guided --profile dist && built=target/guided/target/*/dist/choreo; \
    else \
      cargo build --locked --profile dist -p choreo && built=target/dist/choreo; \
    fi \
 && mkdir /program \
 && cp $built /etc/ssl/certs/ca-certificates.crt /program/

FROM scratch AS built
COPY build/choreo build/ca-certificates.crt /program/

FROM ${PROGRAM} AS program

FROM scratch
COPY --from=program /program/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=program /program/choreo /choreo
USER 65532:65532
EXPOSE 8081
ENTRYPOINT ["/choreo"]
CMD ["manager"]
