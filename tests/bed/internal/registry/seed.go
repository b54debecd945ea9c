package registry

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"pullpass/bed/internal/images"
)

// seed pushes the hello image as each of names (repository:tag) through app,
// a registry over the same storage that has no access controller and listens
// nowhere.
func seed(ctx context.Context, app http.Handler, names []string) error {
	if len(names) == 0 {
		return nil
	}
	for _, image := range names {
		tag, err := name.NewTag("seed.invalid/"+image, name.StrictValidation)
		if err != nil {
			return fmt.Errorf("image %q: %w: write it as repository:tag", image, err)
		}
		hello, err := images.Hello(tag.RepositoryStr())
		if err != nil {
			return err
		}
		if err := remote.Write(tag, hello, remote.WithTransport(inProcess{app}), remote.WithContext(ctx)); err != nil {
			return fmt.Errorf("seed image %q: %w", image, err)
		}
	}
	return nil
}

// inProcess hands requests to a handler without a connection.
type inProcess struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil {
		r.Body = http.NoBody
	}
	recorder := httptest.NewRecorder()
	t.handler.ServeHTTP(recorder, r)
	response := recorder.Result()
	response.Request = r
	return response, nil
}
