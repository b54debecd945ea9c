package registry

import (
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"
)

// awsUsername is the user name of every Amazon ECR token.
// https://docs.aws.amazon.com/AmazonECR/latest/userguide/registry_auth.html
const awsUsername = "AWS"

// minted has the registry accept as passwords what Amazon ECR itself would:
// tokens that the AWS double gave out and that have not expired.
type minted struct {
	// Control is the URL of the double's control side.
	Control string `json:"control"`
	// OverlapSeconds, when given, is for how long a token is still accepted
	// after the same principal got a newer one; Amazon ECR accepts it until it
	// expires.
	OverlapSeconds float64 `json:"overlapSeconds"`
}

// token is one that the double gave out.
type token struct {
	Principal string    `json:"principal"`
	Password  string    `json:"password"`
	Time      time.Time `json:"time"`
	ExpiresAt time.Time `json:"expiresAt"`
}

// find asks the double whose token this is; "" where it is nobody's, or not
// good any more.
func (m *minted) find(password string) (string, error) {
	client := http.Client{Timeout: 5 * time.Second}
	answer, err := client.Get(m.Control + "/minted")
	if err != nil {
		return "", fmt.Errorf("ask the AWS double what it minted: %w", err)
	}
	defer answer.Body.Close()
	var tokens []token
	if err := json.NewDecoder(answer.Body).Decode(&tokens); err != nil {
		return "", fmt.Errorf("read what the AWS double minted: %w", err)
	}
	for n, token := range tokens {
		if subtle.ConstantTimeCompare([]byte(token.Password), []byte(password)) == 1 &&
			time.Now().Before(token.ExpiresAt) && !m.isOver(token.Principal, tokens[n+1:], time.Now()) {
			return token.Principal, nil
		}
	}
	return "", nil
}

// isOver tells whether a principal has got one of these newer tokens for
// longer than the overlap.
func (m *minted) isOver(principal string, newer []token, now time.Time) bool {
	overlap := time.Duration(m.OverlapSeconds * float64(time.Second))
	return overlap > 0 && slices.ContainsFunc(newer, func(next token) bool {
		return next.Principal == principal && now.Sub(next.Time) > overlap
	})
}
