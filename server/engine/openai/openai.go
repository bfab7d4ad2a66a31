// Package openai is the engine in front of any OpenAI-compatible server.
//
// github.com/sashabaranov/go-openai opens each stream: it knows the paths, the
// headers and Azure's ways. Which parameters a model takes is the upstream's to
// say, not go-openai's lists'. Two things on the wire are our own, because there
// it loses what callers rely on:
//
//   - the body of a request (request.go, writer.go): go-openai drops a parameter
//     that is zero, and sorts the keys of a schema;
//   - the stream of an answer (events.go, decode.go, chunk.go): go-openai gives up
//     after 300 comments, loses errors that come in a stream, and knows neither
//     data in several lines nor a lone CR.
//
// What an upstream says goes to callers only as text that the model made, and as
// reasons and messages of package failure. Its own words are the causes, for the
// log, and never hold the key.
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
)

// Config says where the upstream is and how to reach it.
type Config struct {
	// BaseURL is what the paths of the API are put behind: for most servers it
	// ends in /v1, for Azure it is the resource's endpoint. Required.
	BaseURL string

	// Key is the API key. Empty: none is sent, as many a local server wants it.
	Key string

	// APIType is "openai", which is the default, or "azure". With azure the
	// model of a request is the name of a deployment.
	APIType string

	// APIVersion is sent as the query parameter api-version; azure needs it.
	APIVersion string

	// ConnectTimeout bounds dialling, and after that the TLS handshake.
	// Default 10 s.
	ConnectTimeout time.Duration
}

// Engine is an engine.Engine. Make it with New.
type Engine struct {
	config    Config
	transport http.RoundTripper
	redactor  redactor
	dialects  dialects
	drains    sync.WaitGroup // one for each connection that drain empties
}

// New returns an engine for one upstream. It does not connect. Its errors hold
// neither the key nor the URL, which may have a password in it.
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
	}
	return nil
}

// Close waits, a second at most, until the engine's goroutines have ended, and
// closes the idle connections. It is called after the last Generate has returned.
func (e *Engine) Close() {
	e.drains.Wait()
	if t, ok := e.transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// client returns go-openai's client for one exchange about a model, which stands in
// Azure's paths. It costs next to nothing.
func (e *Engine) client(x *exchange, model string) *goopenai.Client {
	cfg := goopenai.DefaultConfig(e.config.Key)
	if e.config.APIType == "azure" {
		cfg = goopenai.DefaultAzureConfig(e.config.Key, "")
		deployment := cfg.AzureModelMapperFunc
		// go-openai puts the deployment into the path as it is: a caller could
		// name a path of its own.
		cfg.AzureModelMapperFunc = func(string) string { return url.PathEscape(deployment(model)) }
	}
	cfg.BaseURL = e.config.BaseURL
	cfg.APIVersion = e.config.APIVersion
	cfg.HTTPClient = x
	return goopenai.NewClientWithConfig(cfg)
}

// Models implements engine.Engine. What Azure lists are models, not deployments.
func (e *Engine) Models(ctx context.Context) ([]string, error) {
	list, err := e.client(&exchange{transport: e.transport, limit: maxModelsBody}, "").ListModels(ctx)
	// Some servers have a string or null where go-openai wants a number: the rest
	// of the list is there all the same.
	var odd *json.UnmarshalTypeError
	if err != nil && !(errors.As(err, &odd) && len(list.Models) > 0) {
		return nil, e.failed(ctx, err, question{})
	}
	models := make([]string, 0, len(list.Models))
	for _, m := range list.Models {
		if m.ID != "" {
			models = append(models, m.ID)
		}
	}
	return models, nil
}

// Generate implements engine.Engine.
func (e *Engine) Generate(ctx context.Context, req *completionv1.CompletionRequest) engine.Stream {
	return &stream{engine: e, ctx: ctx, request: req, question: questionOf(req)}
}
