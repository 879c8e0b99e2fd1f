packages="github.com/minio/minio github.com/minio/mc"
