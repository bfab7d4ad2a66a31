package bridge

import (
	"fmt"
	"log/slog"
	"net/http"
	"slices"

	"github.com/rs/cors"
	"google.golang.org/grpc/codes"

	"github.com/sluice-sse/sluice/bridge/failure"
)

// guardOrigin lets pages of other origins call next when they are allowed to, and keeps
// all others away. "*" allows every origin.
//
// CORS alone would not do: it says who may read an answer, and a page can post
// without asking, as long as it names no Content-Type, and leave the user with the
// bill. So requests that browsers send for pages of other origins are refused
// (net/http.CrossOriginProtection; OWASP's CSRF cheat sheet, fetch metadata).
//
// Cookies are not among what pages may send, since nothing here reads any: a
// caller's credentials are in the Authorization header.
func guardOrigin(origins []string, log *slog.Logger, next http.Handler) (http.Handler, error) {
	if slices.Contains(origins, "*") {
		return allowOrigins(origins, next), nil
	}
	protection := http.NewCrossOriginProtection()
	for _, origin := range origins {
		if err := protection.AddTrustedOrigin(origin); err != nil {
			return nil, fmt.Errorf("allow the origin %q: %w", origin, err)
		}
	}
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		failure.Write(w, log, failure.Invalid(http.StatusForbidden, codes.PermissionDenied, "Origin", "pages of other origins may not call this server"))
	}))
	next = protection.Handler(next)
	if len(origins) == 0 { // to rs/cors that means all
		return next, nil
	}
	return allowOrigins(origins, next), nil
}

func allowOrigins(origins []string, next http.Handler) http.Handler {
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{"GET", "HEAD", "POST"},
		AllowedHeaders: []string{"Authorization", "Content-Type", idempotencyKeyHeader, lastEventIDHeader, requestIDHeader},
		ExposedHeaders: []string{"Location", "Retry-After", requestIDHeader},
		MaxAge:         600,
	}).Handler(next)
}
