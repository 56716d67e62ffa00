# A static program in an image with nothing else: no shell, no package manager, no root.
FROM docker.io/library/rust:1.95-alpine AS build
RUN apk add --no-cache build-base ca-certificates
WORKDIR /src
COPY . .
RUN cargo build --locked --profile dist -p choreo

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/dist/choreo /choreo
USER 65532:65532
EXPOSE 8081
ENTRYPOINT ["/choreo"]
CMD ["manager"]
