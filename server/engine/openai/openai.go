// Package openai is the engine in front of any server with OpenAI's API: chat
// completions, legacy completions and the list of models.
//
// # The request
//
// Engine.negotiate (dialect.go) sends it in the form that the upstream takes for the
// model, and again if it was not taken and that costs nothing (retry.go): encode
// (request.go) writes the body, send (exchange.go) hands it to
// github.com/sashabaranov/go-openai, which knows the paths, the headers and Azure's
// ways, and that to a transport (transport.go). The body is not go-openai's, which
// drops a parameter that is zero and sorts the keys of a schema. Which parameters a
// model takes is for the upstream to say, not for go-openai's lists.
//
// # A chunk
//
// The bytes of the answer come from the connection through responseBody (body.go),
// which decodes the chunked encoding, into the buffer of an eventReader (events.go).
// stream.Next (stream.go) takes an event from there, and returns a chunk in one of two
// ways. Most chunks repeat the one before but for their text: template.match
// (template.go) finds that out, and the text is put in the place of the last one. Any
// other chunk is decoded by decodeChunk (decode.go) with encoding/json, leniently
// (lenient.go), and translated (translate.go), with its tool calls (calls.go), its finish
// reason (finish.go), its usage (usage.go) and members that only some servers have
// (members.go). go-openai does not read the stream: it gives up after 300 comments,
// loses errors within a stream, and knows neither data in several lines nor a lone CR.
//
// # An error
//
// What an upstream answers instead of a completion is an upstreamError
// (upstreamerror.go). failures.go finds out what it means, by its status, its code and
// the phrases in phrases.go. Callers get a reason and a message of package failure, and
// never the upstream's own words. Those are the cause, for the log, without the key
// (redact.go).
//
// What one provider does differently is a row of a table or a field with its source:
// issues are named as owner/repository#number, files of other projects by their paths.
package openai

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	goopenai "github.com/sashabaranov/go-openai"

	completionv1 "github.com/sluice-sse/sluice/gen/completion/v1"
	"github.com/sluice-sse/sluice/server/engine"
	"github.com/sluice-sse/sluice/server/failure"
)

// Config is the configuration of an Engine.
type Config struct {
	// BaseURL is the URL that the API's paths are appended to. For most servers it ends
	// in /v1; for Azure it is the endpoint of the resource. Required.
	BaseURL string

	// Key is the API key. If it is empty none is sent, which many local servers want.
	Key string

	// APIType is "openai", the default, or "azure". With azure, the model of a request
	// is the name of a deployment.
	APIType string

	// APIVersion is sent as the query parameter api-version. Required for azure.
	APIVersion string

	// ConnectTimeout limits dialling and, separately, the TLS handshake. The default is
	// 10 s.
	ConnectTimeout time.Duration

	// Retries is how many times a completion's request is sent again where that
	// certainly costs nothing (retry.go). The default is none.
	Retries int

	// OnRequest is called with each request that is sent to the upstream, by many
	// goroutines at once, and may add to its header. Default: nobody is told.
	OnRequest func(*http.Request)

	// OnRetry is called for each of these, by many goroutines at once, with the reason
	// why the completion would have failed. Default: nobody is told.
	OnRetry func(failure.Reason)
}

// Engine is an engine.Engine. It is made by New, and may be used by many goroutines at
// once.
type Engine struct {
	config    Config
	transport http.RoundTripper
	redactor  redactor
	dialects  dialects
	drains    sync.WaitGroup // the goroutines of drain
}

// New returns an engine for one upstream. It does not connect. An error tells what is
// wrong with the configuration, without the key or the URL, which may hold a password.
func New(cfg Config) (*Engine, error) {
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	base, _ := url.Parse(cfg.BaseURL)
	return &Engine{config: cfg, transport: newTransport(base, cfg.ConnectTimeout), redactor: newRedactor(cfg.Key)}, nil
}

func (cfg *Config) validate() error {
	base, err := url.Parse(cfg.BaseURL)
	switch {
	case err != nil:
		return errors.New("base URL: not a URL")
	case base.Scheme != "http" && base.Scheme != "https":
		return errors.New("base URL: must begin with http:// or https://")
	case base.Hostname() == "":
		return errors.New("base URL: has no host")
	case base.User != nil:
		return errors.New("base URL: must not hold a user or password")
	case base.RawQuery != "" || base.Fragment != "" || base.ForceQuery:
		return errors.New("base URL: must not have a query or a fragment")
	case strings.ContainsFunc(cfg.Key, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return errors.New("key: has a control character, such as the line end of a file")
	case cfg.APIType != "" && cfg.APIType != "openai" && cfg.APIType != "azure":
		return fmt.Errorf("API type %q: must be openai or azure", cfg.APIType)
	case cfg.APIType == "azure" && (cfg.Key == "" || cfg.APIVersion == ""):
		return errors.New("API type azure: needs a key and an API version")
	case cfg.ConnectTimeout < 0:
		return errors.New("connect timeout: must not be negative")
	case cfg.Retries < 0:
		return errors.New("retries: must not be negative")
	}
	return nil
}

// Close closes the idle connections. It waits at most a second, for answers that are
// still read to their end. It is called after the last stream was closed.
func (e *Engine) Close() {
	e.drains.Wait()
	if t, ok := e.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// Models implements engine.Engine. Azure lists models, not deployments. Errors are
// *failure.Error, or the cause of ctx.
func (e *Engine) Models(ctx context.Context) ([]string, error) {
	list, err := e.client(&exchange{transport: e.transport, onRequest: e.config.OnRequest, maxBody: maxModelsBody}, "").ListModels(ctx)
	// Some servers have a string or null where go-openai wants a number. The rest of
	// the list has been decoded nevertheless.
	var wrongType *json.UnmarshalTypeError
	if err != nil && !(errors.As(err, &wrongType) && len(list.Models) > 0) {
		return nil, e.failureOf(ctx, err, requestInfo{})
	}
	models := make([]string, 0, len(list.Models))
	for _, m := range list.Models {
		if m.ID != "" {
			models = append(models, m.ID)
		}
	}
	return models, nil
}

// Generate implements engine.Engine. The errors of the stream are *failure.Error, or
// the cause of ctx.
func (e *Engine) Generate(ctx context.Context, req *completionv1.CompletionRequest) engine.Stream {
	return &stream{engine: e, ctx: ctx, request: req, info: infoOf(req)}
}

// client returns a client of go-openai for one exchange about a model, whose name
// Azure has in its paths. To make one costs next to nothing.
func (e *Engine) client(x *exchange, model string) *goopenai.Client {
	cfg := goopenai.DefaultConfig(e.config.Key)
	if e.config.APIType == "azure" {
		cfg = goopenai.DefaultAzureConfig(e.config.Key, "")
		deployment := cfg.AzureModelMapperFunc
		// go-openai does not escape the deployment in the path, so that a caller could
		// choose another path.
		cfg.AzureModelMapperFunc = func(string) string { return url.PathEscape(deployment(model)) }
	}
	cfg.BaseURL = e.config.BaseURL
	cfg.APIVersion = e.config.APIVersion
	cfg.HTTPClient = x
	return goopenai.NewClientWithConfig(cfg)
}
