"""`python -m orchestra_services`: the program `orchestra-hub` without its script."""

from orchestra_services.main import main

if __name__ == "__main__":
    main()
