package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"google.golang.org/grpc/codes"

	"github.com/cnnkit/cnnkit/internal/engine"
	"github.com/cnnkit/cnnkit/onnxio"
)

// failure is an error with the status that a client gets.
type failure struct {
	status int // HTTP's
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

func fail(status int, format string, args ...any) error {
	return &failure{status, fmt.Errorf(format, args...)}
}

// invalid is a request that cannot be right.
func invalid(format string, args ...any) error { return fail(http.StatusBadRequest, format, args...) }

// statusClosed is nginx's status of a request whose client has gone.
const statusClosed = 499

// statusOf is the HTTP status of an error. An error of the engine that is no fault in it comes from the
// inputs: types and shapes that the model declares were checked before.
func statusOf(err error) int {
	var f *failure
	switch {
	case errors.As(err, &f):
		return f.status
	case errors.As(err, new(*http.MaxBytesError)):
		return http.StatusRequestEntityTooLarge
	case errors.Is(err, context.DeadlineExceeded):
		return http.StatusGatewayTimeout
	case errors.Is(err, context.Canceled):
		return statusClosed
	case isFault(err):
		return http.StatusInternalServerError
	case errors.As(err, new(*onnxio.FormatError)), errors.As(err, new(*onnxio.LimitError)):
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

// grpcCodes are gRPC's words for the statuses above.
var grpcCodes = map[int]codes.Code{
	http.StatusBadRequest: codes.InvalidArgument, http.StatusUnauthorized: codes.Unauthenticated,
	http.StatusForbidden: codes.PermissionDenied, http.StatusNotFound: codes.NotFound,
	http.StatusRequestEntityTooLarge: codes.ResourceExhausted,
	http.StatusUnsupportedMediaType:  codes.InvalidArgument,
	http.StatusTooManyRequests:       codes.ResourceExhausted, statusClosed: codes.Canceled,
	http.StatusInternalServerError: codes.Internal, http.StatusNotImplemented: codes.Unimplemented,
	http.StatusServiceUnavailable: codes.Unavailable, http.StatusGatewayTimeout: codes.DeadlineExceeded,
}

// isFault reports whether an error is a fault of the engine itself.
func isFault(err error) bool { return errors.As(err, new(*engine.FaultError)) }
