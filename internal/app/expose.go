package app

import (
	"errors"

	"github.com/sluice-sse/sluice/bridge"
)

// exposeFlags say which methods of any gRPC server a bridge serves.
type exposeFlags struct {
	Expose        []string `placeholder:"METHOD" help:"A service or a method of the server, such as my.pkg.Service or my.pkg.Service/Method, to serve as POST /my.pkg.Service/Method; a server-streaming one as server-sent events. May be repeated. \"*\" exposes all, but reflection, health and channelz."`
	Descriptors   string   `type:"existingfile" placeholder:"FILE" help:"Their descriptors, as protoc --include_imports --descriptor_set_out or buf build -o writes them. Without: the server's reflection is asked."`
	ForwardHeader []string `placeholder:"NAME" help:"A header that goes to them as metadata, beside Authorization; one whose name ends in -bin in base64. May be repeated."`
}

// Validate implements kong.Validatable.
func (f *exposeFlags) Validate() error {
	if len(f.Expose) == 0 && (f.Descriptors != "" || len(f.ForwardHeader) > 0) {
		return errors.New("--descriptors and --forward-header are for what --expose names, which is nothing")
	}
	return nil
}

// applyTo tells a bridge.
func (f *exposeFlags) applyTo(c *bridge.Config) {
	c.Expose, c.Descriptors, c.ForwardHeaders = f.Expose, f.Descriptors, f.ForwardHeader
}
