// Sluice stands between language models and the people who read them: a
// server-streaming gRPC service, and the same over POST and server-sent events.
package main

import (
	"os"

	"github.com/sluice-sse/sluice/internal/app"
)

func main() { os.Exit(app.Main(os.Args[1:])) }
