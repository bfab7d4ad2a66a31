package bridge

import (
	"net/http"

	"github.com/rs/cors"
)

// allowOrigins lets pages of other origins call next. Cookies are not among what
// they may send, since nothing here reads any: a caller's credentials are in the
// Authorization header.
func allowOrigins(origins []string, next http.Handler) http.Handler {
	if len(origins) == 0 { // to rs/cors that means all
		return next
	}
	return cors.New(cors.Options{
		AllowedOrigins: origins,
		AllowedMethods: []string{"GET", "POST"},
		AllowedHeaders: []string{"Authorization", "Content-Type", "Idempotency-Key", lastEventIDHeader, requestIDHeader},
		ExposedHeaders: []string{"Location", "Retry-After", requestIDHeader},
		MaxAge:         600,
	}).Handler(next)
}
