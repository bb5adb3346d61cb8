# Types of options: `check` says whether a definition fits, `merge` makes one value of the definitions at one place.
{ lib }:
let
  simple = description: check: {
    inherit check description;
    merge =
      place: defs:
      let
        values = lib.unique defs;
      in
      if builtins.length values == 1 then
        builtins.head values
      else
        throw "The option `${lib.showOption place}' has conflicting definition values:${lib.showDefs defs}";
  };
  number =
    description: from: to:
    simple description (value: builtins.isInt value && value >= from && value <= to);
  types = {
    raw = {
      description = "raw value";
      check = _: true;
      merge =
        place: defs:
        if builtins.length defs == 1 then
          builtins.head defs
        else
          throw "The option `${lib.showOption place}' is defined multiple times while it's expected to be unique.";
    };
    bool = simple "boolean" builtins.isBool;
    int = simple "signed integer" builtins.isInt;
    float = simple "floating point number" builtins.isFloat;
    str = simple "string" builtins.isString;
    lines = types.str // {
      description = "strings concatenated with \"\\n\"";
      merge = _: builtins.concatStringsSep "\n";
    };
    package = simple "package" lib.isDerivation;
    port = number "16 bit unsigned integer; between 0 and 65535 (both inclusive)" 0 65535;
    ints.unsigned = number "unsigned integer, meaning >=0" 0 9223372036854775807;

    nullOr = inner: {
      description = "null or ${inner.description}";
      check = value: value == null || inner.check value;
      merge =
        place: defs:
        if builtins.all (def: def == null) defs then
          null
        else if builtins.elem null defs then
          throw "The option `${lib.showOption place}' is defined both null and not null."
        else
          inner.merge place defs;
    };
    either = left: right: {
      description = "${left.description} or ${right.description}";
      check = value: left.check value || right.check value;
      merge = place: defs: (if builtins.all left.check defs then left else right).merge place defs;
    };
    oneOf = all: builtins.foldl' types.either (builtins.head all) (builtins.tail all);

    listOf = inner: {
      description = "list of ${inner.description}";
      check = builtins.isList;
      merge =
        place: defs:
        let
          items = builtins.concatLists defs;
        in
        builtins.genList (
          at: lib.mergeDefinitions (place ++ [ "[entry ${toString (at + 1)}]" ]) inner [ (lib.elemAt items at) ]
        ) (builtins.length items);
    };
    nonEmptyListOf =
      inner:
      types.listOf inner
      // {
        description = "non-empty (list of ${inner.description})";
        check = value: builtins.isList value && value != [ ];
      };
    attrsOf = inner: {
      description = "attribute set of ${inner.description}";
      check = builtins.isAttrs;
      merge =
        place: defs:
        let
          sets = builtins.concatMap lib.pushDownProperties defs;
          at = name: builtins.concatMap (set: lib.optional (set ? ${name}) set.${name}) sets;
          present = name: lib.dischargeProperties (at name) != [ ];
        in
        lib.genAttrs (builtins.filter present (lib.namesOf sets)) (
          name: lib.mergeDefinitions (place ++ [ name ]) inner (at name)
        );
    };
    submodule = module: {
      description = "submodule";
      check = builtins.isAttrs;
      merge =
        place: defs:
        (lib.evalModulesAt place {
          modules = [ module ] ++ map (config: { inherit config; }) defs;
        }).config;
    };
  };
in
types
