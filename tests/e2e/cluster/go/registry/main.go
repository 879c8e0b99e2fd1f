// An image registry by plain HTTP, with its blobs in a folder: for images that were built on this machine.
package main

import (
	"log"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: registry ADDRESS:PORT FOLDER")
	}
	address, folder := os.Args[1], os.Args[2]
	if err := os.MkdirAll(folder, 0o755); err != nil {
		log.Fatal(err)
	}
	server := &http.Server{
		Addr:              address,
		Handler:           registry.New(registry.WithBlobHandler(registry.NewDiskBlobHandler(folder))),
		ReadHeaderTimeout: 5 * time.Second,
	}
	log.Fatal(server.ListenAndServe())
}
