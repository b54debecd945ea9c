package references

import _ "github.com/distribution/reference"
