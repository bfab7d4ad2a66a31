package app

import (
	"fmt"
	"log/slog"
	"net"
	"strings"

	"github.com/sluice-sse/sluice/internal/telemetry"
)

// telemetryFlags are of what operators get to see.
type telemetryFlags struct {
	Admin     string `placeholder:"HOST:PORT" help:"Where to serve operators: /metrics for Prometheus, and Go's profiles in /debug/pprof/. Nobody needs credentials there. Without a host, on this machine alone. Traces and metrics also go over OTLP where the variables of OpenTelemetry ask for it, such as OTEL_EXPORTER_OTLP_ENDPOINT."`
	LogFormat string `enum:"text,json" default:"text" help:"Lines of key=value, or of JSON: ${enum}."`
	LogLevel  string `enum:"debug,info,warn,error" default:"info" help:"The least that is logged: ${enum}. With debug, each request is."`
}

// logger returns what the flags say of the log, and what is to be called at its end.
func (f *telemetryFlags) logger(p *program) (log *slog.Logger, flush func(), err error) {
	options := &slog.HandlerOptions{}
	var level slog.Level
	if err := level.UnmarshalText([]byte(f.LogLevel)); err != nil {
		return nil, nil, fmt.Errorf("--log-level: %w", err)
	}
	options.Level = level
	var handler slog.Handler = slog.NewTextHandler(p.stderr, options)
	if f.LogFormat == "json" {
		handler = slog.NewJSONHandler(p.stderr, options)
	}
	log, flush = telemetry.NewLog(handler)
	return log, flush, nil
}

// startTelemetry gives the program its log and its telemetry, and serves operators. It
// returns what is to be called when all else has ended, and a line about it.
func (f *commonFlags) startTelemetry(p *program) (line string, stop func(), err error) {
	var flush func()
	if p.log, flush, err = f.logger(p); err != nil {
		return "", nil, err
	}
	_, number, _ := strings.Cut(version(), " ")
	p.telemetry, err = telemetry.New(telemetry.Config{Prometheus: f.Admin != "", Getenv: p.getenv, Version: number, Log: p.log})
	if err != nil {
		return "", nil, err
	}
	end := func() {
		p.telemetry.Close()
		flush()
	}
	if f.Admin == "" {
		return "", end, nil
	}
	host, port, err := net.SplitHostPort(f.Admin)
	if err == nil && host == "" {
		host = "127.0.0.1"
	}
	address := net.JoinHostPort(host, port)
	if err != nil { // listen says what is wrong
		address = f.Admin
	}
	l, err := f.listen("--admin", address, p)
	if err != nil {
		end()
		return "", nil, err
	}
	if !isLoopback(l.Addr()) {
		p.log.Info("others can reach --admin: they need no credentials to see metrics and profiles", "listener", l.Addr().String())
	}
	admin := p.telemetry.ServeAdmin(l)
	line = fmt.Sprintf("  admin     http://%s/metrics\n", reachable(admin.Addr().String()))
	return line, func() {
		admin.Close()
		end()
	}, nil
}
