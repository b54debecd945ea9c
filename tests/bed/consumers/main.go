// Command consumers runs the code of those who read a docker config: docker's
// own library, crane, k8schain, oras, helm, and skopeo's. It answers JSON lines
// with JSON lines.
//
//	consumers lookup   which user each client sends for an image, many times over
//	consumers try      one real pull or push
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/sirupsen/logrus"
)

const usage = `usage: consumers lookup | try
example: echo '{"dockerconfigjson":"{}","images":["a.com/b:1"],"tries":3}' | consumers lookup
`

func main() {
	if len(os.Args) != 2 {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	// Each answer says what went wrong.
	logrus.SetLevel(logrus.PanicLevel)
	slog.SetLogLoggerLevel(slog.LevelError)
	var err error
	switch os.Args[1] {
	case "lookup":
		err = serve(lookup)
	case "try":
		err = serve(try)
	default:
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "consumers:", err)
		os.Exit(1)
	}
}

// serve answers each line of stdin with a line: answer's value, or
// {"error": …}.
func serve[Question, Answer any](answer func(config, Question) (Answer, error)) error {
	folder, err := os.MkdirTemp("", "consumers-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(folder)
	file := config(filepath.Join(folder, "config.json"))
	// Where docker, crane, oras and helm look, and nowhere else; nor does
	// k8schain ask a cloud's machine who it is.
	for name, value := range map[string]string{"DOCKER_CONFIG": folder, "HOME": folder, "AWS_EC2_METADATA_DISABLED": "true"} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	encoder := json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var question Question
		if err := json.Unmarshal(lines.Bytes(), &question); err != nil {
			return err
		}
		value, err := answer(file, question)
		if err != nil {
			err = encoder.Encode(map[string]string{"error": err.Error()})
		} else {
			err = encoder.Encode(value)
		}
		if err != nil {
			return err
		}
	}
	return lines.Err()
}

// config is the path of the docker config that all clients read.
type config string

func (c config) write(dockerconfigjson string) error {
	return os.WriteFile(string(c), []byte(dockerconfigjson), 0o600)
}
